"""What a rank tells its agent: lines on a pipe, and marks in a mapped file (docs/protocols.md).

Every worker uses this. Without an agent (under plain torchrun) the same calls say nothing.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from launch.marks import MarkWriter
from launch.rank_lines import PhaseLine, RankLineRecord, RankPhase
from launch.wire import encode
from orchestrator.errors import ExitCode

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


@dataclass(slots=True, kw_only=True)
class Reporter:
    """Sends a rank's lines and marks; `step` is the one that marks are made in."""

    pipe: int | None
    marks: MarkWriter | None
    step: int = 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Reporter":
        """The reporter that an agent's environment asks for."""
        pipe = environment.get("LLMORCH_RANK_FD")
        mark_file = environment.get("LLMORCH_MARK_FILE")
        return cls(
            pipe=None if pipe is None else int(pipe),
            marks=None if mark_file is None else MarkWriter(mark_file),
        )

    def send(self, line: RankLineRecord) -> None:
        """Write a line; when nobody can read it any more, end this process at once.

        A closed pipe means that the agent is gone, and with it whoever could tell this rank to
        stop. No clean-up: a collective of a lost generation may never return.
        """
        if self.pipe is None:
            return
        try:
            os.write(self.pipe, encode(line))
        except BrokenPipeError:
            sys.stderr.write("the agent is gone: this rank ends\n")
            os._exit(ExitCode.HOST)

    def phase(self, phase: RankPhase) -> None:
        """Say what the rank is doing from now on."""
        self.send(PhaseLine(phase=phase))

    def arrive(self, operation: str, group: str) -> None:
        """Mark the collective that is done next, in a group given as a word and its ranks."""
        if self.marks is not None:
            self.marks.arrive(operation, group, step=self.step)

    def mark(self, label: str) -> None:
        """Mark what is done next; costs no system call."""
        if self.marks is not None:
            self.marks.mark(label, step=self.step)


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends (Linux).

    To the kernel that is the thread which started it: an agent must start ranks from a thread that
    lives as long as the agent does.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
