"""Who watches a run: the command line draws it, tests write it down."""

from dataclasses import dataclass
from typing import Protocol

from launch.supervisor.run_state import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One optimizer step, as `metrics.jsonl` has it; `at_s` is seconds since 1970."""

    step: int
    generation: int
    loss: float | None
    grad_norm: float | None
    learning_rate: float | None
    tokens: int
    duration_s: float
    at_s: float

    @property
    def tokens_per_s(self) -> float:
        """Tokens of the whole batch by the step's seconds; 0 for a step that took no time."""
        return self.tokens / self.duration_s if self.duration_s > 0 else 0.0


class Observer(Protocol):
    """What a run tells whoever watches; calls come from the run's only thread."""

    def on_step(self, row: StepRow) -> None:
        """A step ended."""

    def on_phase(self, phase: Phase, generation: int) -> None:
        """The run waits for something else now."""

    def on_sentence(self, sentence: str) -> None:
        """Something was decided, and why."""


class Silence:
    """An observer that is not interested."""

    def on_step(self, row: StepRow) -> None:
        """Nothing."""

    def on_phase(self, phase: Phase, generation: int) -> None:
        """Nothing."""

    def on_sentence(self, sentence: str) -> None:
        """Nothing."""
