"""Log lines on the screen: the last ones, and those that still come."""

import json
import sys
from dataclasses import dataclass
from typing import Protocol

from launch.clock import Pause
from launch.run_directory import RunDirectory
from launch.supervisor.journal import edges
from launch.supervisor.log_lines import LogLine, PulledLogs, SharedLogs, remains
from launch.supervisor.visitor import NoControllerError, Visitor
from orchestrator.cli.screen import talk
from orchestrator.errors import UsageError

SCHEMA = 1
_LOOK_S = 0.25  # between two looks at files or controller


@dataclass(frozen=True, slots=True, kw_only=True)
class LogView:
    """What is to be shown, and how."""

    rank: int | None
    lines: int
    follow: bool
    as_json: bool


class Logs(Protocol):
    """Where lines come from."""

    def last(self, count: int) -> list[LogLine]:
        """Return the last lines."""

    def more(self) -> list[LogLine]:
        """Return what was printed since."""


def show(run: RunDirectory, view: LogView) -> None:
    """Print the last lines of a run and, with `follow`, what comes until it ends.

    Raises:
        UsageError: the run has no such rank.
        StorageError: the run directory cannot be read.
    """
    opened = edges(run.journal).opened
    world_size = opened.terms.world_size if opened else 0
    if view.rank is not None and view.rank >= world_size:
        known = f"its ranks are 0 to {world_size - 1}" if world_size else "it has not begun"
        raise UsageError(problem=f"{run.path.name} has no rank {view.rank}", instead=known)
    if opened is None or opened.log_folder is None:
        _follow(run, SharedLogs(run=run, rank=view.rank), view)
        return
    ranks = range(world_size) if view.rank is None else (view.rank,)
    try:
        with Visitor(run) as visitor:
            pulled = PulledLogs(visitor=visitor, ranks=tuple(ranks))
            _follow(run, pulled, view)
            for problem in sorted(pulled.problems):
                talk().print(f"note: {problem}", markup=False)
    except NoControllerError:
        _show_remains(run, view, log_folder=opened.log_folder)


def _follow(run: RunDirectory, logs: Logs, view: LogView) -> None:
    _write(logs.last(view.lines), view)
    while view.follow:
        is_over = edges(run.journal).closed is not None  # looked at first: what comes now is all
        _write(logs.more(), view)
        if is_over:
            return
        Pause().wait(_LOOK_S)


def _show_remains(run: RunDirectory, view: LogView, *, log_folder: str) -> None:
    left = remains(run, rank=view.rank, log_folder=log_folder)
    _write(list(left.lines[-view.lines :]) if view.lines else [], view)
    talk().print("no controller answers: these are the ranks' last lines", markup=False)
    for place in left.rest:
        talk().print(f"the rest is in {place}", markup=False, soft_wrap=True)


def _write(lines: list[LogLine], view: LogView) -> None:
    for line in lines:
        sys.stdout.write((_as_json(line) if view.as_json else _as_text(line, view)) + "\n")
    sys.stdout.flush()


def _as_text(line: LogLine, view: LogView) -> str:
    """A line for people: the time of day, and whose it is when it could be anybody's."""
    time = line.at[11:23] if line.at else "-"
    attempt = f" generation {line.generation}" if line.generation > 1 else ""
    whose = f" rank {line.rank}" if view.rank is None else ""
    return f"{time}{attempt}{whose} | {line.text}"


def _as_json(line: LogLine) -> str:
    content = {
        "schema": SCHEMA,
        "at": line.at or None,
        "generation": line.generation,
        "rank": line.rank,
        "text": line.text,
    }
    return json.dumps(content, ensure_ascii=False)
