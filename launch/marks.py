"""The progress mark: what a rank is about to do, in a mapped file its agent samples.

The layout is in docs/protocols.md. A mark costs no system call but the clock's, which the kernel
answers without entering it. One rank writes; any number of readers may look at any time, so the
version counter is odd while a mark is being written, and a reader takes it before and after.

The counter orders the writes only where stores are seen in program order: x86-64 does that; on
other processors a reader can at worst see a torn label for one sample.
"""

import mmap
import os
import struct
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

MARK_FILE_BYTES = 256
_VERSION = struct.Struct("<Q")
_BODY = struct.Struct("<QQQ96s")
_LABEL_BYTES = 96
_READ_ATTEMPTS = 8
_GROUPS = struct.Struct("<32I")
_GROUPS_AT = 128
_GROUP = struct.Struct("<II")
MOST_GROUPS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One progress mark; `monotonic_ns` is CLOCK_MONOTONIC of the rank's host."""

    seq: int
    step: int
    monotonic_ns: int
    label: str
    groups: tuple[int, ...] = ()  # pairs of a group's CRC32 and the rank's count in it


class MarkWriter:
    """Writes a rank's progress marks; the file is made when it does not exist."""

    def __init__(self, path: Path | str) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, MARK_FILE_BYTES)
            self._map = mmap.mmap(descriptor, MARK_FILE_BYTES)
        finally:
            os.close(descriptor)
        self._version = 0
        self._seq = 0
        self._counts: dict[str, int] = {}
        self._slots: dict[str, tuple[int, int]] = {}
        _VERSION.pack_into(self._map, 0, 0)

    def mark(self, label: str, *, step: int) -> None:
        """Say what is done next; a label past 96 bytes is cut."""
        self._seq += 1
        self._version += 2
        text = label.encode()[:_LABEL_BYTES]
        _VERSION.pack_into(self._map, 0, self._version - 1)
        _BODY.pack_into(self._map, 8, self._seq, step, time.monotonic_ns(), text)
        _VERSION.pack_into(self._map, 0, self._version)

    def arrive(self, operation: str, group: str, *, step: int) -> None:
        """Say which collective is done next, and count it; `group` is a word and the ranks."""
        count = self._counts[group] = self._counts.get(group, 0) + 1
        slot = self._slots.get(group)
        if slot is None:
            at = _GROUPS_AT + _GROUP.size * len(self._slots)
            slot = self._slots[group] = (at, zlib.crc32(group.encode()))
        if (
            slot[0] < MARK_FILE_BYTES
        ):  # a rank of more groups than there is room for leaves some out
            _GROUP.pack_into(self._map, slot[0], slot[1], count)
        self.mark(f"{operation} {group} #{count}", step=step)

    def close(self) -> None:
        """Unmap the file; what was written stays."""
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_mark(source: Path | str | mmap.mmap) -> Mark | None:
    """The latest mark, or None when there is none yet or each attempt met a write."""
    if isinstance(source, mmap.mmap):
        return _read_mapped(source)
    try:
        with Path(source).open("rb") as file:
            return _parse(file.read(MARK_FILE_BYTES))
    except FileNotFoundError:
        return None


def _read_mapped(source: mmap.mmap) -> Mark | None:
    for _ in range(_READ_ATTEMPTS):
        before = source[: _VERSION.size]
        data = source[:MARK_FILE_BYTES]
        if before == data[: _VERSION.size] == source[: _VERSION.size]:
            mark = _parse(data)
            if mark is not None:
                return mark
    return None


def _parse(data: bytes) -> Mark | None:
    if len(data) < MARK_FILE_BYTES:
        return None
    (version,) = _VERSION.unpack_from(data, 0)
    if version == 0 or version % 2 == 1:
        return None
    seq, step, monotonic_ns, label = _BODY.unpack_from(data, 8)
    text = label.rstrip(b"\0").decode(errors="replace")
    flat = _GROUPS.unpack_from(data, _GROUPS_AT)
    used = next((i for i in range(0, len(flat), 2) if flat[i + 1] == 0), len(flat))
    return Mark(seq=seq, step=step, monotonic_ns=monotonic_ns, label=text, groups=flat[:used])
