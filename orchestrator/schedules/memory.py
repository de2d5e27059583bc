"""What each pipeline rank holds while a schedule runs: from the order alone, exact.

A stage holds a microbatch's activations from the start of its forward to the end of its
backward. Where the backward is split the input gradient releases a part and the weight gradient
the rest: what it needs for the weights. Durations do not matter, as a rank works in order.
"""

from dataclasses import dataclass

import numpy as np

from orchestrator.errors import UsageError
from orchestrator.schedules.actions import Step
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


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMemory:
    """Bytes of one microbatch's activations on each stage.

    `until_weights_bytes` of them are needed by the weight gradient, the others only by the
    input gradient; absent, all are.
    """

    activation_bytes: tuple[int, ...]
    until_weights_bytes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for whole, part in zip(self.activation_bytes, self.until_weights, strict=True):
            if not 0 <= part <= whole:
                raise UsageError(problem=f"{part} of {whole} bytes cannot be kept for the weights")

    @property
    def until_weights(self) -> tuple[int, ...]:
        """Bytes that a weight gradient releases."""
        return self.until_weights_bytes or self.activation_bytes

    @classmethod
    def counted(cls, num_stages: int) -> "StageMemory":
        """Return memory in which each stage's activations count as one."""
        return cls(activation_bytes=(1,) * num_stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A point at which a rank's memory becomes free: the slot, what runs there, how much."""

    slot: int
    step: Step
    released_bytes: int


def held_bytes(schedule: Schedule, rank: int, memory: StageMemory) -> Codes:
    """Return what a rank holds during each slot: before the slot releases anything."""
    taken, released = _changes(schedule, rank, memory)
    held: Codes = np.cumsum(taken) - np.cumsum(released) + released
    return held


def peak_bytes(schedule: Schedule, memory: StageMemory) -> tuple[int, ...]:
    """Return the most that each rank holds at once."""
    return tuple(int(held_bytes(schedule, rank, memory).max()) for rank in range(schedule.pp))


def peaks_in_flight(schedule: Schedule) -> tuple[int, ...]:
    """Return how many activations of chunks each rank holds at its peak."""
    return peak_bytes(schedule, StageMemory.counted(schedule.num_stages))


def releases(schedule: Schedule, rank: int, memory: StageMemory) -> tuple[Release, ...]:
    """Return where a rank's memory becomes free, in order."""
    _, released = _changes(schedule, rank, memory)
    codes = schedule.codes[rank]
    return tuple(
        Release(
            slot=slot,
            step=schedule.numbering.step_of(int(codes[slot])),
            released_bytes=int(released[slot]),
        )
        for slot in np.flatnonzero(released).tolist()
    )


def is_drained(schedule: Schedule, rank: int, memory: StageMemory) -> bool:
    """Return whether a rank holds nothing at the end of the step."""
    taken, released = _changes(schedule, rank, memory)
    return int(taken.sum()) == int(released.sum())


def _changes(schedule: Schedule, rank: int, memory: StageMemory) -> tuple[Codes, Codes]:
    """Return what each slot takes at its start and releases at its end."""
    codes = schedule.codes[rank]
    table = _table(memory)
    taken = _looked_up(table[0], firsts_of(codes), schedule)
    released = _looked_up(table[1], firsts_of(codes), schedule)
    backwards = backwards_of(codes)
    pairs = np.flatnonzero(backwards >= 0)
    released[pairs] += _looked_up(table[1], backwards[pairs], schedule)
    return taken, released


def _table(memory: StageMemory) -> tuple[Codes, Codes]:
    """Return what is taken and what is released by [stage, kind]."""
    whole = np.array(memory.activation_bytes, dtype=np.int64)
    late = np.array(memory.until_weights, dtype=np.int64)
    taken = np.zeros((len(whole), NUM_KINDS), dtype=np.int64)
    released = np.zeros_like(taken)
    taken[:, FORWARD] = whole
    released[:, BACKWARD] = whole
    released[:, INPUT_GRAD] = whole - late
    released[:, WEIGHT_GRAD] = late
    return taken, released


def _looked_up(table: Codes, codes: Codes, schedule: Schedule) -> Codes:
    per_stage = NUM_KINDS * schedule.num_microbatches
    found: Codes = table.ravel()[codes // per_stage * NUM_KINDS + codes % NUM_KINDS]
    return found
