"""What a folder of run directories holds: each run's state, from its files and its controller."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from launch.run_directory import RunDirectory
from launch.supervisor.events import RunOpened
from launch.supervisor.journal import edges
from launch.supervisor.visitor import NoControllerError, Visitor
from orchestrator.errors import StorageError

ABANDONED = "no controller"
UNREADABLE = "unreadable"
_LAST_ROW_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """One run at a glance; what nobody knows is None.

    `state` is a phase while a controller answers, a verdict once the run has ended. `why` says more
    where there is more to say. Times are seconds since 1970.
    """

    directory: Path
    name: str | None
    state: str
    why: str
    generation: int | None
    step: int | None
    last_step: int | None
    ranks: int | None
    began_at_s: float | None


def runs_in(folder: Path) -> tuple[RunDirectory, ...]:
    """The run directories of a folder, by name; a folder that is not there has none."""
    if not folder.is_dir():
        return ()
    found = (RunDirectory(path.absolute()) for path in sorted(folder.iterdir()))
    return tuple(run for run in found if run.journal.is_file())


def survey(runs: Iterable[RunDirectory]) -> tuple[RunFacts, ...]:
    """The facts of each run; a damaged one is told as such and costs the others nothing."""
    return tuple(facts_of(run) for run in runs)


def facts_of(run: RunDirectory) -> RunFacts:
    """One run's facts."""
    try:
        known = edges(run.journal)
    except StorageError as error:
        return _facts(run, None, state=UNREADABLE, why=error.problem)
    if known.closed is not None:
        return _facts(run, known.opened, state=known.closed.verdict, why=known.closed.reason)
    try:
        with Visitor(run, timeout_s=2.0) as visitor:
            status = visitor.status
    except NoControllerError as error:
        return _facts(run, known.opened, state=ABANDONED, why=error.reason)
    except StorageError as error:
        return _facts(run, known.opened, state=ABANDONED, why=str(error))
    return _facts(run, known.opened, state=status.phase, why="")


def _facts(run: RunDirectory, opened: RunOpened | None, *, state: str, why: str) -> RunFacts:
    row = _last_row(run.metrics)
    return RunFacts(
        directory=run.path,
        name=opened.run_name if opened else None,
        state=state,
        why=why,
        generation=row.get("generation"),
        step=row.get("step"),
        last_step=opened.terms.last_step if opened else None,
        ranks=opened.terms.world_size if opened else None,
        began_at_s=opened.at_s if opened else None,
    )


def _last_row(metrics: Path) -> dict[str, int]:
    """The last whole row's whole numbers; empty where there is none."""
    try:
        with metrics.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - _LAST_ROW_BYTES))
            lines = file.read().split(b"\n")[:-1]
        row = json.loads(lines[-1]) if lines else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(row, dict):
        return {}
    return {name: value for name, value in row.items() if isinstance(value, int)}
