"""When each action starts and ends, by exact event simulation in integer nanoseconds.

A rank runs its actions strictly in order and starts each as soon as its input is there:

- a forward needs the forward of the stage before;
- a backward, or its input gradient, needs that of the stage after, or on the last stage its
  own forward; a weight gradient needs nothing from elsewhere;
- an overlapped pair needs the inputs of both its parts, and both results are there at its end;
- an input from another rank arrives `latency_ns` after it was made. Communication is free
  otherwise: it blocks neither side, as with Megatron's overlapped sends.

Ranks that wait for each other for ever are an answer too: `Deadlock` names the circle.
"""

from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from orchestrator.schedules import fast, kernel
from orchestrator.schedules.actions import Action, Step
from orchestrator.schedules.codes import Codes
from orchestrator.schedules.program import Program, program_of
from orchestrator.schedules.schedule import Schedule
from orchestrator.schedules.times import StageTimes

FAST_FROM_STEPS = 20_000
"""Below this many steps plain Python ends before numba has been imported."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timeline:
    """Start and end of every slot, one row a rank in the schedule's order (ns)."""

    schedule: Schedule
    starts_ns: tuple[Codes, ...]
    ends_ns: tuple[Codes, ...]

    @property
    def makespan_ns(self) -> int:
        """Time from the start of the step to the last end over all ranks."""
        return max(int(ends[-1]) for ends in self.ends_ns)

    @property
    def span_ns(self) -> int:
        """Longest time over the ranks from a rank's own first start to its own last end."""
        rows = zip(self.starts_ns, self.ends_ns, strict=True)
        return max(int(ends[-1] - starts[0]) for starts, ends in rows)

    @property
    def busy_ns(self) -> tuple[int, ...]:
        """How long each rank computes."""
        rows = zip(self.starts_ns, self.ends_ns, strict=True)
        return tuple(int((ends - starts).sum()) for starts, ends in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A rank that cannot go on: its next slot and the action whose result that needs."""

    rank: int
    step: Step
    needs: Action

    @override
    def __str__(self) -> str:
        return f"rank {self.rank} waits at {self.step} for {self.needs}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlock:
    """Ranks that wait in a circle: each needs an action that the next one has not come to."""

    waits: tuple[Wait, ...]

    @override
    def __str__(self) -> str:
        return ", ".join(map(str, self.waits))


def simulate(schedule: Schedule, *, times: StageTimes) -> Timeline | Deadlock:
    """Return when every action of a schedule runs, or the circle in which ranks wait.

    The schedule is one in which `check` finds nothing wrong.
    """
    program = program_of(schedule, times=times)
    if program.num_steps >= FAST_FROM_STEPS and fast.is_available():
        ends_ns, cursors = run_compiled(program)
    else:
        ends_ns, cursors = run_plain(program)
    if np.any(cursors < program.offsets[1:]):
        return Deadlock(waits=_circle(schedule, program, cursors))
    ends_ns = ends_ns[program.slots]
    starts_ns = ends_ns - program.takes_ns[program.slots]
    cuts = np.cumsum([len(codes) for codes in schedule.codes])[:-1]
    return Timeline(
        schedule=schedule,
        starts_ns=tuple(np.split(starts_ns, cuts)),
        ends_ns=tuple(np.split(ends_ns, cuts)),
    )


def run_plain(program: Program) -> tuple[Codes, Codes]:
    """Return the end of every step and where each rank stopped, by plain Python."""
    num_ranks = len(program.offsets) - 1
    ends_ns = [-1] * program.num_steps + [0]
    cursors = program.offsets[:-1].tolist()
    kernel.run(
        program.offsets.tolist(),
        program.takes_ns.tolist(),
        program.needs.tolist(),
        program.lags_ns.tolist(),
        ends_ns,
        [-1] * (program.num_steps + 1),
        cursors,
        [0] * num_ranks,
    )
    return np.array(ends_ns, dtype=np.int64), np.array(cursors, dtype=np.int64)


def run_compiled(program: Program) -> tuple[Codes, Codes]:
    """Return the same by the kernel that numba compiled."""
    num_ranks = len(program.offsets) - 1
    ends_ns = np.full(program.num_steps + 1, -1, dtype=np.int64)
    ends_ns[-1] = 0
    cursors = program.offsets[:-1].copy()
    fast.compiled(kernel.run)(
        program.offsets,
        program.takes_ns,
        program.needs,
        program.lags_ns,
        ends_ns,
        np.full(program.num_steps + 1, -1, dtype=np.int64),
        cursors,
        np.zeros(num_ranks, dtype=np.int64),
    )
    return ends_ns, cursors


def _circle(schedule: Schedule, program: Program, cursors: Codes) -> tuple[Wait, ...]:
    """Return the waits of a circle, found by following who waits for whom."""
    waits = {
        rank: _wait(schedule, program, rank=rank, step=step)
        for rank, step in enumerate(cursors.tolist())
        if step < program.offsets[rank + 1]
    }
    path: list[int] = []
    rank = min(waits)
    while rank not in path:
        path.append(rank)
        rank = schedule.rank_of(waits[rank].needs.stage)
    return tuple(waits[rank] for rank in path[path.index(rank) :])


def _wait(schedule: Schedule, program: Program, *, rank: int, step: int) -> Wait:
    slot = int(np.searchsorted(program.slots, step))
    code = int(np.concatenate(schedule.codes)[slot])
    (needs,) = schedule.numbering.step_of(int(program.waits_for[step])).actions
    return Wait(rank=rank, step=schedule.numbering.step_of(code), needs=needs)
