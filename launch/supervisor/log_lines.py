"""A run's log lines, of all ranks in one order: by the time at which each was read.

Where the ranks' logs are in the run directory they are read there, whether or not the run still
goes on. Logs on the hosts' own disks are read through the controller while there is one; what
remains of them afterwards is each rank's last lines, in the journal.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from launch.agent.log_files import read_last, read_on
from launch.run_directory import RunDirectory
from launch.supervisor.events import AgentJoined, RankExited
from launch.supervisor.journal import Happened, read
from launch.supervisor.visitor import Visitor
from launch.wire import AskLog, LogPiece, LogPosition
from orchestrator.errors import StorageError

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (.*)", re.DOTALL)
_LOG = re.compile(r"rank-(\d+)\.log")
_QUESTIONS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LogLine:
    """A line a rank printed; `at` is UTC as text, "" where the line has none."""

    at: str
    generation: int
    rank: int
    text: str = field(compare=False)


@dataclass(slots=True, kw_only=True)
class SharedLogs:
    """Logs in the run directory."""

    run: RunDirectory
    rank: int | None
    _positions: dict[Path, LogPosition] = field(default_factory=dict)

    def last(self, count: int) -> list[LogLine]:
        """The last lines, of the newest generations first until there are enough."""
        lines: list[LogLine] = []
        for generation, folder in reversed(_generations(self.run)):
            for rank, path in _logs(folder, self.rank):
                text = read_last(path, lines=count)
                self._positions[path] = text.position
                lines += _lines(text.lines, generation=generation, rank=rank)
            if len(lines) >= count:
                break
        return merged(lines)[-count:] if count else []

    def more(self) -> list[LogLine]:
        """What was printed since; of new generations, too."""
        lines: list[LogLine] = []
        for generation, folder in _generations(self.run)[-1:]:
            for rank, path in _logs(folder, self.rank):
                after = self._positions.get(path, _BEGINNING)
                text = read_on(path, after)
                self._positions[path] = text.position
                lines += _lines(text.lines, generation=generation, rank=rank)
        return merged(lines)


@dataclass(slots=True, kw_only=True)
class PulledLogs:
    """Logs on the hosts' own disks, through the controller."""

    visitor: Visitor
    ranks: tuple[int, ...]
    problems: set[str] = field(default_factory=set)
    _positions: dict[int, LogPosition] = field(default_factory=dict)

    def last(self, count: int) -> list[LogLine]:
        """The last lines of the present generation."""
        return merged(self._pull(count))[-count:] if count else []

    def more(self) -> list[LogLine]:
        """What was printed since."""
        self.visitor.look_again()
        return merged(self._pull(0))

    def _pull(self, count: int) -> Iterator[LogLine]:
        generation = self.visitor.status.generation
        for start in range(0, len(self.ranks), _QUESTIONS_AT_ONCE):
            ranks = self.ranks[start : start + _QUESTIONS_AT_ONCE]
            questions = [
                AskLog(ticket=rank, rank=rank, lines=count, position=self._positions.get(rank))
                for rank in ranks
            ]
            for piece in self.visitor.logs(questions):
                yield from self._take(piece, generation)

    def _take(self, piece: LogPiece, generation: int) -> Iterable[LogLine]:
        if piece.problem is not None:
            self.problems.add(piece.problem)
        if piece.position is not None:
            self._positions[piece.ticket] = piece.position
        return _lines(piece.lines, generation=generation, rank=piece.ticket)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What is known of node-local logs after a run: last lines, and where the rest is."""

    lines: tuple[LogLine, ...]
    rest: tuple[str, ...]


def remains(run: RunDirectory, *, rank: int | None, log_folder: str) -> Remains:
    """The last lines of each rank that ended in the newest generation, from the journal."""
    entries = read(run.journal).entries
    events = [entry.event for entry in entries if isinstance(entry, Happened)]
    exits = [e for e in events if isinstance(e, RankExited) and rank in {None, e.rank}]
    newest = max((e.generation for e in exits), default=0)
    shown = [e for e in exits if e.generation == newest]
    hosts = sorted({e.host for e in events if isinstance(e, AgentJoined)})
    place = f"{log_folder}/{run.local_name}/generation-{newest}"
    return Remains(
        lines=tuple(
            LogLine(at="", generation=newest, rank=e.rank, text=text)
            for e in sorted(shown, key=lambda e: e.rank)
            for text in e.tail
        ),
        rest=tuple(f"{host}:{place}" for host in hosts),
    )


def merged(lines: Iterable[LogLine]) -> list[LogLine]:
    """Lines in the order of their times; those of one rank stay in theirs."""
    return sorted(lines)


_BEGINNING = LogPosition(file=0, offset=0, head=0)


def _lines(texts: Iterable[str], *, generation: int, rank: int) -> Iterator[LogLine]:
    """Lines with their times; one without (of another program) goes with the one before it."""
    at = ""
    for text in texts:
        match = _STAMP.fullmatch(text)
        if match:
            at, text = match.groups()  # noqa: PLW2901 - the line without its time
        yield LogLine(at=at, generation=generation, rank=rank, text=text)


def _generations(run: RunDirectory) -> list[tuple[int, Path]]:
    numbered = (
        (entry.name.removeprefix("generation-"), entry) for entry in run.logs.glob("generation-*")
    )
    return sorted((int(number), path) for number, path in numbered if number.isdecimal())


def _logs(folder: Path, rank: int | None) -> list[tuple[int, Path]]:
    try:
        names = [folder / f"rank-{rank}.log"] if rank is not None else list(folder.iterdir())
    except OSError as error:
        raise StorageError(path=str(folder), problem=error.strerror or str(error)) from None
    found = ((_LOG.fullmatch(path.name), path) for path in names if path.exists())
    return sorted((int(match[1]), path) for match, path in found if match)
