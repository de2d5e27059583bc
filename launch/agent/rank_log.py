"""A rank's log: what it prints, with the time of each line, in files of bounded size and number.

The rank prints into a pipe and the agent writes the file, so that a full disk costs lines and not
the rank, that no rank fills a disk, and that lines of several ranks can be put in order. Lines keep
the time at which the agent read them: UTC with microseconds, so that the order of the texts is the
order of the times.
"""

import os
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from launch.clock import Clock

TAIL_LINES = 40
_TAIL_LINE_CHARACTERS = 400
_NO_FILE = -1  # a write to it fails, whoever has the number of the closed one by now
_LONGEST_LINE_BYTES = 16_384  # longer ones are broken, so that no line is held back for ever


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRules:
    """How long a log file may become, and how many full ones stay beside the newest."""

    limit_bytes: int
    keep: int


class RankLog:
    """Takes a rank's output in pieces of any size; `rank-3.log.1` is older than `rank-3.log`."""

    def __init__(self, path: Path, *, rules: LogRules, clock: Clock) -> None:
        """Open the file; an OSError says that it cannot be had."""
        self.path = path
        self._rules = rules
        self._clock = clock
        self._rest = b""
        self._lost = 0
        self._file = _NO_FILE
        self._tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._open()

    @property
    def tail(self) -> tuple[str, ...]:
        """The rank's last lines, without times; long ones are cut."""
        lines = (*self._tail, self._rest) if self._rest else tuple(self._tail)
        shown = (line.decode(errors="replace")[:_TAIL_LINE_CHARACTERS] for line in lines)
        return tuple(shown)[-TAIL_LINES:]

    def feed(self, data: bytes) -> None:
        """Take what the rank printed; what follows its last newline waits for the next piece."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) >= _LONGEST_LINE_BYTES:
            lines.append(self._rest[:_LONGEST_LINE_BYTES])
            self._rest = self._rest[_LONGEST_LINE_BYTES:]
        self._write(lines)

    def note(self, sentence: str) -> None:
        """Add a line of our own."""
        self._write([f"llmorch: {sentence}".encode()])

    def close(self) -> None:
        """Write what is left, and let the file go."""
        if self._rest:
            self._write([self._rest])
            self._rest = b""
        self._close()

    def _write(self, lines: list[bytes]) -> None:
        if not lines:
            return
        self._tail.extend(lines)
        stamp = stamp_of(self._clock.wall_s()).encode()
        if self._lost:
            lines = [b"llmorch: %d lines could not be written here" % self._lost, *lines]
        for piece in _pieces(lines, stamp=stamp, limit_bytes=self._rules.limit_bytes):
            self._append(piece)

    def _append(self, piece: bytes) -> None:
        try:
            if self._size_bytes and self._size_bytes + len(piece) > self._rules.limit_bytes:
                self._rotate()
            written = os.write(self._file, piece)
            self._size_bytes += written
            if written < len(piece):  # a full disk takes a part and refuses the rest
                os.write(self._file, piece[written:])
        except OSError:
            self._lost += piece.count(b"\n")
        else:
            self._lost = 0

    def _rotate(self) -> None:
        self._close()
        for number in range(self._rules.keep, 0, -1):
            older, newer = rotated(self.path, number), rotated(self.path, number - 1)
            with suppress(FileNotFoundError):
                newer.replace(older)
        if self._rules.keep == 0:
            self.path.unlink(missing_ok=True)
        self._open()

    def _close(self) -> None:
        file, self._file = self._file, _NO_FILE
        if file != _NO_FILE:
            os.close(file)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self.path, flags, 0o644)
        self._size_bytes = os.fstat(self._file).st_size


def rotated(path: Path, number: int) -> Path:
    """A log's file: 0 is the newest, higher numbers are older."""
    return path.with_name(f"{path.name}.{number}") if number else path


def stamp_of(wall_s: float) -> str:
    """A time as log lines begin with it."""
    return datetime.fromtimestamp(wall_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ ")


def _pieces(lines: Iterable[bytes], *, stamp: bytes, limit_bytes: int) -> Iterable[bytes]:
    """The lines with their time, put together to pieces that a file can take whole."""
    piece: list[bytes] = []
    size_bytes = 0
    for line in lines:
        stamped = b"%s%s\n" % (stamp, line)
        if piece and size_bytes + len(stamped) > limit_bytes:
            yield b"".join(piece)
            piece, size_bytes = [], 0
        piece.append(stamped)
        size_bytes += len(stamped)
    yield b"".join(piece)
