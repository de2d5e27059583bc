"""What makes a forked process a rank: everything a started one would have been given."""

import os
import sys
from dataclasses import dataclass

from launch.fork_lines import ForkRank


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptors:
    """What came beside the request: where the rank prints, where it speaks, its mark file."""

    prints: int
    speaks: int
    marks: int

    def close(self) -> None:
        """Let them go: a pipe ends when nobody holds it any more."""
        for descriptor in (self.prints, self.speaks, self.marks):
            os.close(descriptor)


def become_rank(order: ForkRank, given: Descriptors) -> None:
    """Take on a rank's outputs, processors, environment, and randomness of its own."""
    _take_streams(given.prints)
    if order.processors is not None:
        os.sched_setaffinity(0, order.processors)
    for descriptor in (given.speaks, given.marks):
        os.set_inheritable(descriptor, True)  # as a started rank has them
    doors = {
        "LLMORCH_RANK_FD": str(given.speaks),
        "LLMORCH_MARK_FILE": f"/proc/self/fd/{given.marks}",
    }
    os.environ.clear()
    os.environ.update(dict(order.env) | doors)
    numpy = sys.modules.get("numpy")
    if numpy is not None:  # Python's own `random` sees to itself after a fork
        numpy.random.seed()


def _take_streams(prints: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (prints, 1), (prints, 2)):
        os.dup2(descriptor, number)
    os.close(nothing)
    os.close(prints)
