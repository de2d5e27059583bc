"""A model card made of a `config.json`, and what of the file found no place in it."""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.catalog.huggingface.config import Config, UnreadableConfigError
from orchestrator.catalog.huggingface.families import GEMMA_3_DEFAULTS, READERS
from orchestrator.errors import InvalidFile, Problem, nearest
from orchestrator.specs.document import examined
from orchestrator.specs.model import ModelCard

_TEXT = "text_config"
_DEFAULTS: Mapping[str, Mapping[str, object]] = {"gemma3_text": GEMMA_3_DEFAULTS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A card, and the keys of the file that it does not say, with their values."""

    card: ModelCard
    unmapped: Mapping[str, object]


def imported(text: str, *, name: str, file: str, retrieved: dt.date | None = None) -> Imported:
    """Return the card that a `config.json` describes.

    A file of a model with other modalities is read for its text part; `retrieved` is the day on
    which it was read.

    Raises:
        InvalidFile: not JSON, a kind of model nobody described here, or a value that a card
            cannot hold.
    """
    whole = _mapping(text, file=file)
    inner = whole.get(_TEXT)
    around = {key: value for key, value in whole.items() if key not in {_TEXT, "model_type"}}
    values = dict(inner) if isinstance(inner, Mapping) else whole
    found = values.get("model_type") or whole.get("model_type")
    kind = found if isinstance(found, str) else ""
    reader = READERS.get(kind)
    if reader is None:
        raise InvalidFile(file=file, problems=[_unknown(kind)])
    config = Config({**_DEFAULTS.get(kind, {}), **values})
    try:
        fields = reader(config)
    except UnreadableConfigError as error:
        raise InvalidFile(file=file, problems=[error.problem]) from error
    source = [f"{file} (model_type {kind})"]
    card, problems = examined(
        {"name": name, "family": kind, **fields, "source": source, "retrieved": retrieved},
        model=ModelCard,
    )
    if card is None or problems:
        raise InvalidFile(file=file, problems=problems)
    left = config.unread() | (Config(around).unread() if isinstance(inner, Mapping) else {})
    left.pop("model_type", None)
    return Imported(card=card, unmapped=left)


def _mapping(text: str, *, file: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = Problem(key="", message=f"not JSON: {error}")
        raise InvalidFile(file=file, problems=[problem]) from error
    if not isinstance(found, dict):
        problem = Problem(key="", message=f"is a {type(found).__name__}, not a mapping")
        raise InvalidFile(file=file, problems=[problem])
    return found


def _unknown(kind: str) -> Problem:
    return Problem(
        key="model_type",
        message=f"'{kind}' is not known here" if kind else "is required and absent",
        possible=f"{nearest(kind, READERS)}; or write a card by hand, see docs/catalog.md",
    )
