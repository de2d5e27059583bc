"""A run as it goes on: a progress bar on a terminal, a line now and then elsewhere."""

import math
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from launch.supervisor.observer import StepRow
from launch.supervisor.run_state import Phase
from orchestrator.units import text_of_count

_LINES_WITHOUT_TERMINAL = 16


class TrainingView:
    """An observer of a run that draws on a console; use it as a context."""

    def __init__(self, console: Console, *, last_step: int) -> None:
        self._console = console
        self._last_step = last_step
        self._every = max(1, math.ceil(last_step / _LINES_WITHOUT_TERMINAL))
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[figures]}"),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("gathering", total=last_step, figures="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def on_step(self, row: StepRow) -> None:
        """Show a step's figures."""
        figures = _figures(row)
        self._bar.update(self._task, completed=row.step, figures=figures)
        is_due = row.step % self._every == 0 or row.step in {1, self._last_step}
        if not self._console.is_terminal and is_due:
            self._console.print(f"step {row.step}/{self._last_step}  {figures}")

    def on_phase(self, phase: Phase, generation: int) -> None:
        """Show what the run waits for; after the first generation, which attempt it is."""
        attempt = f" (generation {generation})" if generation > 1 else ""
        self._bar.update(self._task, description=f"{phase.value}{attempt}")

    def on_sentence(self, sentence: str) -> None:
        """Keep every decision on the screen, above the bar."""
        self._bar.console.print(f"- {sentence}", markup=False)


def _figures(row: StepRow) -> str:
    loss = "loss ?" if row.loss is None else f"loss {row.loss:.4f}"
    return f"{loss}  {text_of_count(row.tokens_per_s)} tokens/s"
