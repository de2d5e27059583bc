"""A row of DeepSpeed's JSON: one key, where its value comes from, and why it is there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.cost.parameters import layer_parameters
from orchestrator.cost.shape import shape_of
from orchestrator.records.layout import Layout
from orchestrator.records.plan import Plan
from orchestrator.specs.training import OptimizerSpec, TrainingSpec

Value = str | int | float | bool | tuple[float, ...] | None
"""What a row gives; None leaves the key out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What rows read: a plan for a release, with short names for its parts."""

    plan: Plan
    version: str

    @property
    def layout(self) -> Layout:
        """The degrees of the axes."""
        return self.plan.layout

    @property
    def training(self) -> TrainingSpec:
        """What is trained."""
        return self.plan.run.training

    @property
    def optimizer(self) -> OptimizerSpec:
        """The optimizer and its learning rates."""
        return self.plan.run.training.optimizer

    @property
    def own(self) -> Mapping[str, Any]:
        """The user's own keys."""
        return self.plan.run.spec.engine.config

    @property
    def layer_elements(self) -> int:
        """Parameters of the largest decoder layer."""
        shape = shape_of(self.plan.run.model)
        return max(layer_parameters(shape, kind=kind).total for kind in shape.kinds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One key of the JSON, dots between the names of blocks: its value in a job, and why.

    Where it `yields`, the user's own value takes its place.
    """

    key: str
    value: Callable[[Job], Value]
    why: str
    yields: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Rows that belong together, under a heading that the generated README shows."""

    title: str
    rows: tuple[Row, ...]
    applies: Callable[[Job], bool] = lambda _: True


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A key with its value, as it stands in the JSON, and why."""

    section: str
    key: str
    value: Any
    why: str
    yields: bool = False


def settings_of(job: Job, sections: tuple[Section, ...]) -> tuple[Setting, ...]:
    """Return the keys that a job has in a table, in the table's order."""
    return tuple(
        Setting(section=section.title, key=row.key, value=value, why=row.why, yields=row.yields)
        for section in sections
        if section.applies(job)
        for row in section.rows
        if (value := row.value(job)) is not None
    )


def joined(
    ours: tuple[Setting, ...], own: Mapping[str, Any]
) -> tuple[tuple[Setting, ...], tuple[str, ...]]:
    """Return our keys with the user's among them, and where theirs say something else.

    Theirs take the place of those that yield.
    """
    theirs = dict(_leaves(own))
    twice = tuple(
        f"engine.config.{one.key}: {theirs[one.key]!r}, but {one.value!r} follows from the run file"
        f" ({one.why}); change that instead"
        for one in ours
        if one.key in theirs and not one.yields and theirs[one.key] != _plain(one.value)
    )
    kept = tuple(one for one in ours if one.key not in theirs or not one.yields)
    said = {one.key for one in kept}
    added = tuple(
        Setting(section="Your own", key=key, value=value, why="engine.config")
        for key, value in theirs.items()
        if key not in said
    )
    return (*kept, *added), twice


def document_of(settings: tuple[Setting, ...]) -> dict[str, Any]:
    """Return the JSON's content, keys in the order of the settings."""
    document: dict[str, Any] = {}
    for one in settings:
        *blocks, last = one.key.split(".")
        place = document
        for block in blocks:
            place = place.setdefault(block, {})
        place[last] = _plain(one.value)
    return document


def _plain(value: Value) -> Any:  # noqa: ANN401  JSON
    return list(value) if isinstance(value, tuple) else value


def _leaves(keys: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in keys.items():
        path = f"{before}{key}"
        is_block = isinstance(value, dict) and value and not any("." in name for name in value)
        found += _leaves(value, f"{path}.") if is_block else [(path, value)]
    return found
