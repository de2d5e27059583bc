"""Reading rank logs: the last lines, then on from there, across rotation."""

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launch.agent.rank_log import rotated
from launch.wire import LogPosition

PIECE_LIMIT_BYTES = 1 << 17  # in a sealed line each byte may take seven
_BLOCK_BYTES = 1 << 16
_HEAD_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LogText:
    """Whole lines of a log, without newlines, and where they end."""

    lines: tuple[str, ...]
    position: LogPosition


def read_last(path: Path, *, lines: int, limit_bytes: int = PIECE_LIMIT_BYTES) -> LogText:
    """The last lines of a log, of its older files too where the newest has too few.

    Raises:
        OSError: there is no such log, or it cannot be read.
    """
    with path.open("rb") as file:
        end = _whole_bytes(file.fileno())
        position = _position(file.fileno(), end)
        found = _last_lines(file.fileno(), end, lines, limit_bytes)
    number = 1
    while len(found) < lines and rotated(path, number).exists():
        with rotated(path, number).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            room = max(0, limit_bytes - sum(map(len, found)))
            found = _last_lines(file.fileno(), size, lines - len(found), room) + found
        number += 1
    return LogText(lines=_texts(found), position=position)


def read_on(path: Path, after: LogPosition, *, limit_bytes: int = PIECE_LIMIT_BYTES) -> LogText:
    """The whole lines that came after a position, at most about `limit_bytes` of them.

    Where rotation has deleted the file of the position, reading goes on with the oldest.

    Raises:
        OSError: there is no such log, or it cannot be read.
    """
    lines: list[bytes] = []
    position, room = after, limit_bytes
    for path_of_file in _from(path, after):
        with path_of_file.open("rb") as file:
            start = after.offset if _is_of(file.fileno(), after) else 0
            data = os.pread(file.fileno(), room, start)
            whole = data[: data.rfind(b"\n") + 1]
            position = _position(file.fileno(), start + len(whole))
        lines += whole.split(b"\n")[:-1]
        room -= len(data)
        if room <= 0:
            break
    return LogText(lines=_texts(lines), position=position)


def _from(path: Path, after: LogPosition) -> Iterator[Path]:
    """The files of a log from the one of a position on, older ones first."""
    files = [path]
    while (older := rotated(path, len(files))).exists():
        files.append(older)
    first = next((i for i, file in enumerate(files) if _holds(file, after)), len(files) - 1)
    return reversed(files[: first + 1])


def _holds(path: Path, position: LogPosition) -> bool:
    try:
        with path.open("rb") as file:
            return _is_of(file.fileno(), position)
    except FileNotFoundError:  # rotated since
        return False


def _is_of(descriptor: int, position: LogPosition) -> bool:
    return position == _position(descriptor, position.offset)


def _position(descriptor: int, offset: int) -> LogPosition:
    head = os.pread(descriptor, min(offset, _HEAD_BYTES), 0)
    return LogPosition(file=os.fstat(descriptor).st_ino, offset=offset, head=zlib.crc32(head))


def _whole_bytes(descriptor: int) -> int:
    """Up to where a file has whole lines: a line may be being written."""
    size = os.fstat(descriptor).st_size
    end = os.pread(descriptor, _BLOCK_BYTES, max(0, size - _BLOCK_BYTES))
    return size - len(end) + end.rfind(b"\n") + 1


def _last_lines(descriptor: int, end: int, count: int, limit_bytes: int) -> list[bytes]:
    """The last `count` lines before `end`, fewer where they would not fit in `limit_bytes`."""
    data, start = b"", end
    while start > 0 and data.count(b"\n") <= count and len(data) < limit_bytes:
        size = min(_BLOCK_BYTES, start, limit_bytes - len(data))
        start -= size
        data = os.pread(descriptor, size, start) + data
    lines = data.split(b"\n")[:-1]
    if start > 0:
        lines = lines[1:]  # the first may be the end of one
    return lines[-count:] if count else []


def _texts(lines: list[bytes]) -> tuple[str, ...]:
    return tuple(line.decode(errors="replace") for line in lines)
