"""The built-in cards: models, accelerators and clusters, each a YAML file with its sources."""

from functools import cache
from importlib.resources import files
from typing import TypeVar

from pydantic import BaseModel

from orchestrator.errors import UnknownName
from orchestrator.specs.cluster import AcceleratorCard, ClusterCard
from orchestrator.specs.document import parse
from orchestrator.specs.model import ModelCard

Card = TypeVar("Card", bound=BaseModel)

_SUFFIX = ".yaml"


def model_names() -> tuple[str, ...]:
    """Return the names of the built-in model cards, sorted."""
    return _names("models")


def cluster_names() -> tuple[str, ...]:
    """Return the names of the built-in cluster cards, sorted."""
    return _names("clusters")


def accelerator_names() -> tuple[str, ...]:
    """Return the names of the built-in accelerator cards, sorted."""
    return _names("accelerators")


def model_card(name: str) -> ModelCard:
    """Return a built-in model card.

    Raises:
        UnknownName: there is no such card; the nearest name is given.
    """
    return _card("models", name, kind="model", model=ModelCard)


def cluster_card(name: str) -> ClusterCard:
    """Return a built-in cluster card.

    Raises:
        UnknownName: there is no such card; the nearest name is given.
    """
    return _card("clusters", name, kind="cluster", model=ClusterCard)


def accelerator_card(name: str) -> AcceleratorCard:
    """Return a built-in accelerator card.

    Raises:
        UnknownName: there is no such card; the nearest name is given.
    """
    return _card("accelerators", name, kind="accelerator", model=AcceleratorCard)


@cache
def _names(shelf: str) -> tuple[str, ...]:
    found = (files("orchestrator.catalog") / shelf).iterdir()
    return tuple(
        sorted(file.name.removesuffix(_SUFFIX) for file in found if file.name.endswith(_SUFFIX))
    )


def _card(shelf: str, name: str, *, kind: str, model: type[Card]) -> Card:
    if name not in _names(shelf):
        raise UnknownName(kind=kind, name=name, known=_names(shelf))
    return parse(_text(shelf, name), model=model, file=f"{kind} card {name}")


@cache
def _text(shelf: str, name: str) -> str:
    file = files("orchestrator.catalog") / shelf / f"{name}{_SUFFIX}"
    return file.read_text(encoding="utf-8")
