"""Runs as a table for people and as JSON."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from launch.supervisor.survey import ABANDONED, UNREADABLE, RunFacts
from orchestrator.units import text_of_seconds

SCHEMA = 1
_NOTED = (ABANDONED, UNREADABLE, "failed", "host", "refused", "storage")
_UNKNOWN = "?"


def document(runs: Sequence[RunFacts], *, now_s: float) -> dict[str, Any]:
    """Return the runs as JSON; `age_s` is None where nobody knows when a run began."""
    return {"schema": SCHEMA, "runs": [_as_json(run, now_s) for run in runs]}


def picture(runs: Sequence[RunFacts], *, now_s: float) -> RenderableType:
    """Return the runs for people; what needs a look is explained below the table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in _COLUMNS:
        table.add_column(title, justify=justify, overflow="fold")
    for run in runs:
        table.add_row(*_cells(run, now_s))
    noted = [run for run in runs if run.state in _NOTED and run.why]
    return Group(table, *(Text(f"{run.directory.name}: {run.why}") for run in noted))


_COLUMNS: tuple[tuple[str, JustifyMethod], ...] = (
    ("run", "left"),
    ("name", "left"),
    ("state", "left"),
    ("step", "right"),
    ("generation", "right"),
    ("ranks", "right"),
    ("age", "right"),
)


def _cells(run: RunFacts, now_s: float) -> tuple[str, ...]:
    age = _UNKNOWN if run.began_at_s is None else text_of_seconds(max(0, now_s - run.began_at_s))
    step = 0 if run.step is None else run.step
    return (
        run.directory.name,
        run.name or _UNKNOWN,
        run.state,
        f"{step:,}/{_count(run.last_step)}",
        _count(run.generation or 0),
        _count(run.ranks),
        age,
    )


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"


def _as_json(run: RunFacts, now_s: float) -> dict[str, Any]:
    return {
        "run": run.directory.name,
        "directory": str(run.directory),
        "name": run.name,
        "state": run.state,
        "why": run.why,
        "generation": run.generation,
        "step": run.step,
        "last_step": run.last_step,
        "ranks": run.ranks,
        "began_at_s": run.began_at_s,
        "age_s": None if run.began_at_s is None else max(0.0, now_s - run.began_at_s),
    }
