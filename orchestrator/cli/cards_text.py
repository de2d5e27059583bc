"""A card's page: every field with its unit and meaning, its marks, its sources."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.catalog.cards import (
    accelerator_card,
    accelerator_names,
    accelerator_of,
    cluster_card,
    cluster_names,
    environment_card,
    environment_names,
    model_card,
    model_names,
)
from orchestrator.catalog.environment import environment_of
from orchestrator.cli import card_pages, card_tables
from orchestrator.errors import UnknownName
from orchestrator.specs.card import Card
from orchestrator.specs.cluster import AcceleratorCard, ClusterCard, EnvironmentCard
from orchestrator.specs.model import ModelCard

SCHEMA = 1
UNVERIFIED = "unverified"
_PLAIN_FROM = 1e-3
_TOLD_APART = {
    *("name", "source", "retrieved", "confidence", "unverified", "notes", "prices"),
    *("env", "site", "init_script", "needs", "avoid"),
}
_SHELVES = (
    ("model", model_names, model_card),
    ("cluster", cluster_names, cluster_card),
    ("accelerator", accelerator_names, accelerator_card),
    ("environment", environment_names, environment_card),
)


def document_of(name: str) -> dict[str, Any]:
    """Return a card as JSON, with `computed` beside what the card itself says.

    Raises:
        UnknownName: no card has that name; the nearest is given.
    """
    kind, card = _found(name)
    fields = card.model_dump(mode="json", exclude_none=True)
    return {"schema": SCHEMA, "kind": kind, "card": fields, "computed": _computed(card)}


def picture_of(name: str) -> RenderableType:
    """Return a card as a table of fields, what follows from them, and the sources.

    Raises:
        UnknownName: no card has that name; the nearest is given.
    """
    kind, card = _found(name)
    return Group(
        Text(f"{kind} {name}{_confidence(card)}", style="bold"),
        _fields_picture(card),
        Text(),
        *_further(card),
        *_sources(card),
    )


def list_document() -> dict[str, Any]:
    """Return the names of all built-in cards as JSON."""
    return {"schema": SCHEMA} | {f"{kind}s": list(names()) for kind, names, _ in _SHELVES}


def list_picture() -> RenderableType:
    """Return all built-in cards, one line each."""
    return Group(
        card_tables.models_picture(card_tables.models_found(())),
        Text(),
        card_tables.clusters_picture(
            card_tables.clusters_found(()), card_tables.all_accelerators()
        ),
        Text(f"environments: {', '.join(environment_names())}"),
    )


def _found(name: str) -> tuple[str, Card]:
    for kind, names, look in _SHELVES:
        if name in names():
            return kind, look(name)
    known = [known for _, names, _ in _SHELVES for known in names()]
    raise UnknownName(kind="card", name=name, known=known)


def _confidence(card: Card) -> str:
    return f" ({card.confidence} confidence)" if card.confidence else ""


def _computed(card: Card) -> dict[str, Any]:
    if isinstance(card, ModelCard):
        return card_pages.computed_of(card)
    if isinstance(card, ClusterCard):
        environment = environment_of(card)
        return {
            "accelerator": accelerator_of(card).model_dump(mode="json", exclude_none=True),
            "environment": environment.model_dump(mode="json") if environment else None,
        }
    return {}


def _further(card: Card) -> Iterator[RenderableType]:
    if isinstance(card, ModelCard):
        yield card_pages.counts_picture(card)
        yield Text()
    if isinstance(card, AcceleratorCard | ClusterCard):
        yield from _prices(card)
    if isinstance(card, ClusterCard):
        accelerator = accelerator_of(card)
        yield Text(f"accelerator {accelerator.name}{_confidence(accelerator)}", style="bold")
        yield _fields_picture(accelerator)
        yield from _prices(accelerator)
        yield Text()
        environment = environment_of(card)
        if environment is not None:
            yield Text(f"environment {environment.name}", style="bold")
            yield _environment_picture(environment)
            yield Text()
    if isinstance(card, EnvironmentCard):
        yield _environment_picture(card)
        yield Text()


def _fields_picture(card: Card) -> Table:
    """Return the fields that the card gives; what it leaves at its default is not shown."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", max_width=40)
    table.add_column(style="yellow", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    for path, value, meaning in _rows(card, card=card, prefix=""):
        mark = UNVERIFIED if card.is_unverified(path) else ""
        table.add_row(path.replace("_", " ").replace(".", ": "), value, mark, meaning)
    return table


def _rows(model: BaseModel, *, card: Card, prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, info in type(model).model_fields.items():
        value, path = getattr(model, name), f"{prefix}{name}"
        if name not in model.model_fields_set or path in _TOLD_APART or value is None:
            continue
        if isinstance(value, BaseModel) and not isinstance(value, Card):
            yield from _rows(value, card=card, prefix=f"{path}.")
        else:
            yield path, _value_text(value, card=card, path=path), info.description or ""


def _prices(card: AcceleratorCard | ClusterCard) -> Iterator[Text]:
    mark = f", {UNVERIFIED}" if card.is_unverified("prices") else ""
    for price in card.prices:
        yield Text(
            f"price {price.low_usd:g} to {price.high_usd:g} USD for an accelerator and hour: "
            f"{price.market}, {price.as_of}{mark} ({price.source})"
        )


def _environment_picture(card: EnvironmentCard) -> Group:
    lines = [f"  {name}={value}" for name, value in card.env.items()]
    lines += [f"  {name}: to be given: {what}" for name, what in card.site.items()]
    if card.init_script:
        lines.append(f"  source {card.init_script}")
    lines += [f"  needs {what}" for what in card.needs]
    lines += [f"  leave out {what}" for what in card.avoid]
    return Group(*(Text(line) for line in lines or ["  no variables"]))


def _sources(card: Card) -> Iterator[Text]:
    read = f", {card.retrieved}" if card.retrieved else ""
    for source in card.source:
        yield Text(f"source: {source}{read}", style="dim")
    if card.notes:
        yield Text(f"note: {card.notes}", style="dim")


def _value_text(value: object, *, card: Card, path: str) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key} {_scalar_text(inner)}{_inner_mark(card, path, str(key))}"
            for key, inner in value.items()
        )
    if isinstance(value, tuple):
        return ", ".join(_scalar_text(inner) for inner in value)
    return _scalar_text(value)


def _scalar_text(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.12g}" if abs(value) >= _PLAIN_FROM else f"{value:g}"
        case Card():
            return value.name
        case _:
            return str(value)


def _inner_mark(card: Card, path: str, key: str) -> str:
    whole, part = card.is_unverified(path), card.is_unverified(f"{path}.{key}")
    return f" ({UNVERIFIED})" if part and not whole else ""
