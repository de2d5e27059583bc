"""One rank as its agent sees it: a process, two pipes with what it says and prints, its marks."""

import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from launch import wire
from launch.agent.rank_log import RankLog
from launch.marks import MARK_FILE_BYTES, read_mark
from launch.rank_lines import RANK_LINES, FromRank, RankLineRecord
from launch.transport.processes import process_state
from launch.wire import RankBeat, WireError

_NANOSECONDS_PER_S = 1e9
_OLD_S = 0.5  # of a mark that is older more is told


class RankLineReader:
    """Turns what a rank writes into records; a bad line costs that line and a complaint."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        self._complain = complain
        self._rest = b""
        self._is_skipping = False

    def feed(self, data: bytes) -> Iterator[RankLineRecord]:
        """The records of the lines that `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self._is_skipping:  # the end of a line that was too long
                self._is_skipping = False
                continue
            record = self._decode(line)
            if record is not None:
                yield record
        if len(self._rest) >= FromRank.LIMIT_BYTES:
            if not self._is_skipping:
                self._complain(f"rank line past {FromRank.LIMIT_BYTES} bytes")
            self._is_skipping, self._rest = True, b""

    def _decode(self, line: bytes) -> RankLineRecord | None:
        if len(line) >= FromRank.LIMIT_BYTES:
            self._complain(f"rank line past {FromRank.LIMIT_BYTES} bytes")
            return None
        try:
            return wire.decode(line, RANK_LINES)
        except WireError as error:
            self._complain(f"rank line not understood: {error}")
            return None


class MarkFile:
    """The mapped file of a rank's marks, in memory only: nothing is left behind by any crash."""

    def __init__(self, rank: int) -> None:
        self.descriptor = os.memfd_create(f"llmorch-mark-{rank}", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, MARK_FILE_BYTES)
        self._map = mmap.mmap(self.descriptor, MARK_FILE_BYTES, prot=mmap.PROT_READ)

    @property
    def path(self) -> str:
        """The file's name inside the rank, which inherits the descriptor under the same number."""
        return f"/proc/self/fd/{self.descriptor}"

    def beat(self, *, rank: int, pid: int, monotonic_s: float) -> RankBeat:
        """The rank's latest mark and its age."""
        mark = read_mark(self._map)
        if mark is None:
            return RankBeat(rank=rank, pid=pid, seq=None, step=None, mark_age_s=None, label=None)
        age_s = max(0.0, monotonic_s - mark.monotonic_ns / _NANOSECONDS_PER_S)
        beat = RankBeat(
            rank=rank, pid=pid, seq=mark.seq, step=mark.step, mark_age_s=age_s, label=mark.label
        )
        if age_s < _OLD_S:
            return beat
        return replace(beat, groups=mark.groups, state=process_state(pid))

    def close(self) -> None:
        """Let go of the file; a rank that still maps it keeps it."""
        self._map.close()
        os.close(self.descriptor)


@dataclass(slots=True, kw_only=True)
class RunningRank:
    """A rank whose process exists."""

    rank: int
    pid: int
    lines: int  # our end of the pipe it speaks into
    reader: RankLineReader
    output: int  # our end of what it prints
    marks: MarkFile
    log: RankLog
    fork_s: float | None = None  # how long its fork took; None when it was not forked
    cold: str | None = None  # why it was not, where there should be a fork server
