"""A schedule as steps that know what they wait for: what the simulation kernel runs.

Steps of all ranks stand one after the other; `offsets[r]` is where those of rank r begin. Step i
may start when step `needs[i]` has ended and `lags[i]` nanoseconds have gone by; a need of
`num_steps` is the step's input, which is there from the beginning. An overlapped pair becomes
three steps: one that waits for the forward's input and takes no time, then the slot itself,
which waits for the backward's, then one that stands for the forward's result, so that no
step is waited for by two ranks.
"""

from dataclasses import dataclass

import numpy as np

from orchestrator.errors import UsageError
from orchestrator.schedules import placement as placements
from orchestrator.schedules.codes import (
    BACKWARD,
    FORWARD,
    INPUT_GRAD,
    NUM_KINDS,
    WEIGHT_GRAD,
    Codes,
    backwards_of,
    firsts_of,
)
from orchestrator.schedules.schedule import Schedule
from orchestrator.schedules.times import StageTimes

_EXTRA_STEPS = 2
"""Steps of an overlapped pair beside its slot."""

_MOST_NS = 9e18
"""Most that all steps of a program may take together: just below 2^63."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """The steps of a schedule; `slots` are the steps that stand for its codes, in order."""

    offsets: Codes
    takes_ns: Codes
    needs: Codes
    lags_ns: Codes
    slots: Codes
    waits_for: Codes
    """The code of the action that each step waits for; -1 where it is the step's input."""

    @property
    def num_steps(self) -> int:
        """Steps of all ranks together."""
        return len(self.takes_ns)


def program_of(schedule: Schedule, *, times: StageTimes) -> Program:
    """Return the steps of a schedule in which `check` finds nothing wrong.

    Raises:
        UsageError: an action waits for one that no rank ever does, or times do not fit.
    """
    codes = np.concatenate(schedule.codes)
    backwards = backwards_of(codes)
    pairs = np.flatnonzero(backwards >= 0)
    slots, offsets = _places(schedule, pairs)
    actions = np.empty(len(codes) + _EXTRA_STEPS * len(pairs), dtype=np.int64)
    actions[slots] = np.where(backwards >= 0, backwards, codes) if len(pairs) else codes
    for beside in (-1, 1):
        actions[slots[pairs] + beside] = firsts_of(codes[pairs])
    takes_ns = np.zeros(len(actions), dtype=np.int64)
    takes_ns[slots] = times.durations(codes, schedule.numbering)
    _expect_countable(takes_ns, latency_ns=times.latency_ns)
    made_by = _made_by(actions, schedule)
    waits_for = _waits_for(actions, schedule)
    needs = made_by[waits_for]  # -1 finds the last place, which is the step's input
    _expect_made(needs, waits_for, schedule)
    return Program(
        offsets=offsets,
        takes_ns=takes_ns,
        needs=needs,
        lags_ns=_crossing(waits_for, actions, schedule) * times.latency_ns,
        slots=slots,
        waits_for=waits_for,
    )


def _places(schedule: Schedule, pairs: Codes) -> tuple[Codes, Codes]:
    """Return the step of each code, and where the steps of each rank begin."""
    lengths = [0, *map(len, schedule.codes)]
    starts = np.cumsum(lengths, dtype=np.int64)
    slots = np.arange(starts[-1], dtype=np.int64)
    if len(pairs):
        is_pair = np.zeros(len(slots) + 1, dtype=np.int64)
        is_pair[pairs] = 1
        before = _EXTRA_STEPS * (np.cumsum(is_pair) - is_pair)
        return slots + before[:-1] + is_pair[:-1], starts + before[starts]
    return slots, starts


def _made_by(actions: Codes, schedule: Schedule) -> Codes:
    """Return the step that makes each result, the step's input last.

    A gradient may come from B or from I. Of two steps with one code the later one counts.
    """
    made_by = np.full(schedule.numbering.num_codes + 1, -1, dtype=np.int64)
    made_by[-1] = len(actions)
    is_input_grad = actions % NUM_KINDS == INPUT_GRAD
    made_by[actions - is_input_grad * (INPUT_GRAD - BACKWARD)] = np.arange(len(actions))
    return made_by


def _waits_for(actions: Codes, schedule: Schedule) -> Codes:
    """Return the code of the result that each action needs, -1 for none from elsewhere."""
    per_stage = NUM_KINDS * schedule.num_microbatches
    kinds = actions % NUM_KINDS
    is_forward = kinds == FORWARD
    is_last = actions >= (schedule.num_stages - 1) * per_stage
    units = actions - kinds
    gradients = np.where(is_last, units + FORWARD, units + per_stage + BACKWARD)
    needed = np.where(is_forward, actions - per_stage, gradients)
    # A forward of the first stage reads data; weight gradients follow their own input gradient.
    has_input = (is_forward & (actions < per_stage)) | (kinds == WEIGHT_GRAD)
    waits_for: Codes = np.where(has_input, -1, needed)
    return waits_for


def _crossing(waits_for: Codes, actions: Codes, schedule: Schedule) -> Codes:
    """Return 1 where an input comes from another rank."""
    per_stage = NUM_KINDS * schedule.num_microbatches
    ranks = np.array(
        [
            placements.rank_of(stage, pp=schedule.pp, placement=schedule.placement)
            for stage in range(schedule.num_stages)
        ],
        dtype=np.int64,
    )
    crosses = ranks[waits_for // per_stage] != ranks[actions // per_stage]
    crossing: Codes = (crosses & (waits_for >= 0)).astype(np.int64)
    return crossing


def _expect_countable(takes_ns: Codes, *, latency_ns: int) -> None:
    """Refuse times that could add up to more nanoseconds than 64 bits count."""
    total_ns = float(takes_ns.sum(dtype=np.float64)) + float(latency_ns) * len(takes_ns)
    if total_ns > _MOST_NS:
        raise UsageError(
            problem=f"the times of {len(takes_ns):,} actions add up to more than 285 years",
            instead="shorter times, or fewer microbatches, show the same pattern",
        )


def _expect_made(needs: Codes, waits_for: Codes, schedule: Schedule) -> None:
    missing = np.flatnonzero(needs < 0)
    if len(missing):
        action = schedule.numbering.step_of(int(waits_for[missing[0]]))
        raise UsageError(problem=f"{action} is waited for and never done")
