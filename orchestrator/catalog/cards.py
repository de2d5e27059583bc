"""The built-in cards: models, accelerators, clusters and environments, a YAML file each."""

from functools import cache
from importlib.resources import files
from typing import TypeVar

from orchestrator.errors import UnknownName
from orchestrator.specs.card import Card
from orchestrator.specs.cluster import AcceleratorCard, ClusterCard, EnvironmentCard
from orchestrator.specs.document import parse
from orchestrator.specs.model import ModelCard

AnyCard = TypeVar("AnyCard", bound=Card)

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


def environment_names() -> tuple[str, ...]:
    """Return the names of the built-in environment cards, sorted."""
    return _names("environments")


@cache
def model_card(name: str) -> ModelCard:
    """Return a built-in model card.

    Raises:
        UnknownName: there is no such card; the nearest name is given.
    """
    return _card("models", name, kind="model", model=ModelCard)


@cache
def cluster_card(name: str) -> ClusterCard:
    """Return a built-in cluster card.

    Raises:
        UnknownName: there is no such card; the nearest name is given.
    """
    return _card("clusters", name, kind="cluster", model=ClusterCard)


@cache
def accelerator_card(name: str) -> AcceleratorCard:
    """Return a built-in accelerator card.

    Raises:
        UnknownName: there is no such card; the nearest name is given.
    """
    return _card("accelerators", name, kind="accelerator", model=AcceleratorCard)


@cache
def environment_card(name: str) -> EnvironmentCard:
    """Return a built-in environment card.

    Raises:
        UnknownName: there is no such card; the nearest name is given.
    """
    return _card("environments", name, kind="environment", model=EnvironmentCard)


def accelerator_of(cluster: ClusterCard) -> AcceleratorCard:
    """Return the accelerator of a cluster: the built-in card it names, or the one it holds.

    Raises:
        UnknownName: it names a card that does not exist.
    """
    if isinstance(cluster.accelerator, AcceleratorCard):
        return cluster.accelerator
    return accelerator_card(cluster.accelerator)


@cache
def _names(shelf: str) -> tuple[str, ...]:
    found = (files("orchestrator.catalog") / shelf).iterdir()
    return tuple(
        sorted(file.name.removesuffix(_SUFFIX) for file in found if file.name.endswith(_SUFFIX))
    )


def _card(shelf: str, name: str, *, kind: str, model: type[AnyCard]) -> AnyCard:
    if name not in _names(shelf):
        raise UnknownName(kind=kind, name=name, known=_names(shelf))
    return parse(_text(shelf, name), model=model, file=f"{kind} card {name}")


@cache
def _text(shelf: str, name: str) -> str:
    file = files("orchestrator.catalog") / shelf / f"{name}{_SUFFIX}"
    return file.read_text(encoding="utf-8")
