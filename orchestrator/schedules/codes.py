"""Orders as arrays of numbers, so that a quarter of a million actions take milliseconds.

The code of an action is 4 (stage m + microbatch) + k, with m microbatches and k = 0 1 2 3 for
F B I W. An overlapped pair is one code: the forward's in the low half, the backward's plus one
in the high half.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.errors import UsageError
from orchestrator.schedules.actions import Action, ActionKind, Overlap, Step

Codes = npt.NDArray[np.int64]

NUM_KINDS = 4
FORWARD, BACKWARD, INPUT_GRAD, WEIGHT_GRAD = range(NUM_KINDS)
_KINDS = (
    ActionKind.FORWARD,
    ActionKind.BACKWARD,
    ActionKind.INPUT_GRAD,
    ActionKind.WEIGHT_GRAD,
)
_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}
_HALF_BITS = 32
_LOW_HALF = (1 << _HALF_BITS) - 1
NONE = -1
"""What `backwards_of` says of a code that is no pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbering:
    """The codes of a step's actions."""

    num_stages: int
    num_microbatches: int

    @property
    def num_codes(self) -> int:
        """One more than the largest code of a single action."""
        return NUM_KINDS * self.num_stages * self.num_microbatches

    def code(self, kind: int, stage: int, microbatch: int) -> int:
        """Return the code of one action."""
        return NUM_KINDS * (stage * self.num_microbatches + microbatch) + kind

    def codes(self, kind: int, stages: Codes | int, microbatches: Codes) -> Codes:
        """Return the codes of many actions."""
        return NUM_KINDS * (stages * self.num_microbatches + microbatches) + kind

    def code_of(self, step: Step) -> int:
        """Return the code of what a rank does in one slot.

        Raises:
            UsageError: the stage or the microbatch does not exist.
        """
        for action in step.actions:
            self._expect(action)
        first, *second = (
            self.code(_NUMBERS[one.kind], one.stage, one.microbatch) for one in step.actions
        )
        return overlapped(first, second[0]) if second else first

    def step_of(self, code: int) -> Step:
        """Return what a code says."""
        first = self._action_of(code & _LOW_HALF)
        second = code >> _HALF_BITS
        if not second:
            return first
        return Overlap(forward=first, backward=self._action_of(second - 1))

    def _action_of(self, code: int) -> Action:
        unit, kind = divmod(code, NUM_KINDS)
        stage, microbatch = divmod(unit, self.num_microbatches)
        return Action(kind=_KINDS[kind], stage=stage, microbatch=microbatch)

    def _expect(self, action: Action) -> None:
        if action.stage >= self.num_stages:
            raise UsageError(
                problem=f"{action} names a stage past the {self.num_stages} of the pipeline",
                instead=f"stages are 0 to {self.num_stages - 1}",
            )
        if action.microbatch >= self.num_microbatches:
            raise UsageError(
                problem=f"{action} names a microbatch past the {self.num_microbatches} of the step",
                instead=f"microbatches are 0 to {self.num_microbatches - 1}",
            )


def overlapped(forward: int, backward: int) -> int:
    """Return the code of a forward and a backward in one slot."""
    return forward | (backward + 1) << _HALF_BITS


def all_overlapped(forwards: Codes, backwards: Codes) -> Codes:
    """Return the codes of pairs."""
    return forwards | (backwards + 1) << _HALF_BITS


def firsts_of(codes: Codes) -> Codes:
    """Return the single codes, of pairs the forward's."""
    return codes & _LOW_HALF


def backwards_of(codes: Codes) -> Codes:
    """Return the code of each pair's backward, `NONE` where a code is no pair."""
    return (codes >> _HALF_BITS) + NONE


def alternated(forwards: Codes, backwards: Codes, *, warmup: int) -> Codes:
    """Return `warmup` forwards, then forward and backward in turn, then what is left."""
    num, rest = len(forwards), len(forwards) - warmup
    order = np.empty(2 * num, dtype=np.int64)
    order[:warmup] = forwards[:warmup]
    order[warmup : warmup + 2 * rest : 2] = forwards[warmup:]
    order[warmup + 1 : warmup + 2 * rest : 2] = backwards[:rest]
    order[warmup + 2 * rest :] = backwards[rest:]
    return order


def array_of(codes: Iterable[int]) -> Codes:
    """Return codes that were made one by one as an array."""
    return np.fromiter(codes, dtype=np.int64)
