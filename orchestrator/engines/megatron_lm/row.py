"""A row of a release's option table: one flag, where its value comes from, and why it is there."""

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.records.layout import Layout
from orchestrator.records.plan import Plan
from orchestrator.records.run import padded_vocab_size
from orchestrator.specs.layers import MoeSpec
from orchestrator.specs.model import ModelCard
from orchestrator.specs.training import OptimizerSpec, TrainingSpec

Value = str | int | float | tuple[str | int | float, ...] | bool | None
"""What a row gives: False or None leaves the flag out, True writes it alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What rows read: a plan, with short names for its parts."""

    plan: Plan

    @property
    def model(self) -> ModelCard:
        """The model's card."""
        return self.plan.run.model

    @property
    def moe(self) -> MoeSpec:
        """The experts; asked for only where there are some."""
        assert self.plan.run.model.moe is not None  # noqa: S101  rows under `with_experts`
        return self.plan.run.model.moe

    @property
    def training(self) -> TrainingSpec:
        """What is trained."""
        return self.plan.run.training

    @property
    def optimizer(self) -> OptimizerSpec:
        """The optimizer and its learning rates."""
        return self.plan.run.training.optimizer

    @property
    def layout(self) -> Layout:
        """The degrees of the axes."""
        return self.plan.layout

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding, padded for this tp."""
        return padded_vocab_size(self.model, self.training, tp=self.layout.tp)

    @property
    def fsdp(self) -> bool:
        """Whether ZeRO 2 or 3 is asked for: Megatron-FSDP."""
        return self.layout.zero_stage > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One flag of `pretrain_gpt.py`: its value in a job, and why it is written at all."""

    flag: str
    value: Callable[[Job], Value]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Rows that belong together, under a heading that the generated README shows.

    Where `yields`, the user's own option of the same name takes a row's place; elsewhere the run
    file says it, and a second answer is refused.
    """

    title: str
    rows: tuple[Row, ...]
    applies: Callable[[Job], bool] = lambda _: True
    yields: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """A flag with its words, as it stands on the command line, and why."""

    section: str
    flag: str
    words: tuple[str, ...]
    why: str
    yields: bool = False


def arguments_of(job: Job, sections: tuple[Section, ...]) -> tuple[Argument, ...]:
    """Return the arguments that a job has in a table, in the table's order."""
    return tuple(
        Argument(
            section=section.title,
            flag=row.flag,
            words=words,
            why=row.why,
            yields=section.yields,
        )
        for section in sections
        if section.applies(job)
        for row in section.rows
        if (words := _words(row.value(job))) is not None
    )


def _words(value: Value) -> tuple[str, ...] | None:
    match value:
        case None | False:
            return None
        case True:
            return ()
        case tuple():
            return tuple(_word(item) for item in value)
        case _:
            return (_word(value),)


def _word(value: str | float) -> str:
    return f"{value:.17g}" if isinstance(value, float) and not _short(value) else str(value)


def _short(value: float) -> bool:
    return float(str(value)) == value
