"""The journal: every event and instruction of a run, in order, before anything is done about it.

A line is `{"crc":"<8 hex digits>","seq":n,"event":{...}}` (or `stale`, or `instruction`), the CRC32
being that of the bytes after it, so that a line can be checked without agreeing on how JSON is
written. There is one writer. A torn last line (the machine died while writing) is dropped, for
nothing was done about it yet; a bad line before the last means that the file was changed, and is
refused with its number.
"""

import errno
import fcntl
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from launch.codec import Family, Line, WireError, from_json, parse, text, to_json
from launch.supervisor.events import EVENTS, Event, RunOpened
from launch.supervisor.instructions import INSTRUCTIONS, CloseRun, Instruction
from launch.supervisor.run_state import State
from launch.supervisor.state import handle, open_run
from orchestrator.errors import StorageError

_OPENING = b'{"crc":"'
_CRC_DIGITS = 8
_REST_AT = len(_OPENING) + _CRC_DIGITS + len(b'",')
_TAIL_LINES = 20
_LAST_BYTES = 1 << 17  # a closing line is much shorter
_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
L = TypeVar("L", bound=Line)
_EVENT, _STALE, _INSTRUCTION = "event", "stale", "instruction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """A line with an event; a stale one was kept and changed nothing."""

    seq: int
    event: RunOpened | Event
    is_stale: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A line with an instruction."""

    seq: int
    instruction: Instruction


Entry = Happened | Decided


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A journal's whole lines, and how many bytes of the file they take."""

    entries: tuple[Entry, ...]
    whole_bytes: int


class Writer(Protocol):
    """Where a controller writes its history; an OSError says that the storage does not take it."""

    def happened(self, event: RunOpened | Event) -> None:
        """Write an event."""

    def came_late(self, event: Event) -> None:
        """Write an event that changes nothing any more."""

    def decided(self, instruction: Instruction) -> None:
        """Write an instruction."""

    def sync(self) -> None:
        """Make everything written so far durable."""

    def tail(self) -> tuple[str, ...]:
        """The last lines."""


class Journal:
    """The one writer of a journal file; `before` is what the file held already."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        _lock(self._file, path)
        self.before = read(path)
        os.ftruncate(self._file, self.before.whole_bytes)
        self._seq = len(self.before.entries)
        self._last: tuple[str, ...] = ()

    def happened(self, event: RunOpened | Event) -> None:
        """Write an event."""
        self._append(_EVENT, event)

    def came_late(self, event: Event) -> None:
        """Write an event that changes nothing any more."""
        self._append(_STALE, event)

    def decided(self, instruction: Instruction) -> None:
        """Write an instruction."""
        self._append(_INSTRUCTION, instruction)

    def sync(self) -> None:
        """Make everything written so far durable."""
        os.fsync(self._file)

    def tail(self) -> tuple[str, ...]:
        """The last lines."""
        return self._last

    def close(self) -> None:
        """Write no more, and let another controller have it."""
        os.close(self._file)

    def _append(self, what: str, record: Line) -> None:
        rest = text({"seq": self._seq + 1, what: to_json(record)}).encode()[1:]
        line = b'%s%08x",%s\n' % (_OPENING, zlib.crc32(rest), rest)
        written = os.write(self._file, line)
        if written < len(line):  # a full disk takes a part and refuses the rest
            os.write(self._file, line[written:])
        self._seq += 1
        self._last = (*self._last[1 - _TAIL_LINES :], line.decode().rstrip("\n"))


def read(path: Path) -> History:
    """All whole lines of a journal.

    Raises:
        StorageError: a line before the last is damaged, out of order, or not understood.
    """
    *lines, torn = path.read_bytes().split(b"\n")
    entries: list[Entry] = []
    for seq, line in enumerate(lines, start=1):
        try:
            entries.append(_entry(line, seq=seq))
        except WireError as error:
            if seq == len(lines) and not torn:
                break
            raise StorageError(path=str(path), problem=f"line {seq}: {error}") from None
    whole_bytes = sum(len(line) + 1 for line in lines[: len(entries)])
    return History(entries=tuple(entries), whole_bytes=whole_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """How a journal begins, and how it ends: None where it is not closed, or not begun."""

    opened: RunOpened | None
    closed: CloseRun | None


def edges(path: Path) -> Edges:
    """The first and the last record of a journal, without reading what is between them.

    Raises:
        StorageError: it cannot be read, or begins with something else.
    """
    try:
        with path.open("rb") as file:
            first = file.readline()
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - _LAST_BYTES))
            last = file.read().split(b"\n")[:-1][-1:]
    except OSError as error:
        raise StorageError(path=str(path), problem=error.strerror or str(error)) from None
    is_whole = first.endswith(b"\n")  # a torn first line: its writer died, or is at it
    opened = _record(first.rstrip(b"\n"), EVENTS, "event") if is_whole else None
    if is_whole and not isinstance(opened, RunOpened):
        raise StorageError(path=str(path), problem="line 1: not the beginning of a run")
    closed = _record(last[0], INSTRUCTIONS, "instruction") if last else None
    return Edges(
        opened=opened if isinstance(opened, RunOpened) else None,
        closed=closed if isinstance(closed, CloseRun) else None,
    )


def replay(entries: Sequence[Entry]) -> State:
    """The state a history leads to; checks that the table decides again what was decided then.

    Instructions of an event may be missing where a controller died before it wrote them.

    Raises:
        StorageError: the history is empty, or this program would have decided otherwise.
    """
    state: State | None = None
    due: list[Instruction] = []
    for entry in entries:
        if isinstance(entry, Decided):
            if not due or due.pop(0) != entry.instruction:
                raise _disagreement(entry.seq)
        elif isinstance(entry.event, RunOpened):
            state, instructions = open_run(entry.event, state)
            due = list(instructions)
        elif state is None or due:
            raise _disagreement(entry.seq)
        else:
            state, instructions = handle(state, entry.event)
            due = list(instructions)
    if state is None:
        raise StorageError(path="journal", problem="it is empty")
    return state


def _lock(file: int, path: Path) -> None:
    """Take the file for this process as long as it lives.

    Where the file system knows no locks the epoch alone guards the run: a controller that finds a
    later one stops acting.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StorageError(
            path=str(path),
            problem="another controller is at work on this run",
            instead="controller.json beside it says which; stop that one first",
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise


def _record(line: bytes, among: Family[L], what: str) -> L | None:
    """The record of an undamaged line, when it is what was expected."""
    try:
        values = parse(b"{" + line[_REST_AT:])
        return from_json(values[what], among) if isinstance(values, dict) else None
    except (WireError, KeyError):
        return None


def _entry(line: bytes, *, seq: int) -> Entry:
    rest = line[_REST_AT:]
    if line[:_REST_AT] != b'%s%08x",' % (_OPENING, zlib.crc32(rest)):
        raise WireError(problem="damaged")
    match parse(b"{" + rest):
        case {"seq": found, "event": record} if found == seq:
            return Happened(seq=seq, event=from_json(record, EVENTS), is_stale=False)
        case {"seq": found, "stale": record} if found == seq:
            return Happened(seq=seq, event=from_json(record, EVENTS), is_stale=True)
        case {"seq": found, "instruction": record} if found == seq:
            return Decided(seq=seq, instruction=from_json(record, INSTRUCTIONS))
        case {"seq": found}:
            raise WireError(problem=f"has the number {found}")
        case _:
            raise WireError(problem="not a journal line")


def _disagreement(seq: int) -> StorageError:
    return StorageError(
        path="journal", problem=f"line {seq}: not what this program would have decided"
    )
