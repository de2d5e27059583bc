"""One unit of pipeline work: a stage runs a microbatch forward, or all or part of its backward."""

import re
from dataclasses import dataclass
from enum import StrEnum

from typing_extensions import override

from orchestrator.errors import UsageError

_TEXT = re.compile(r"([0-9]+)([FBIW])([0-9]+)")
_PAIR = re.compile(r"\(([^;()]+);([^;()]+)\)OVERLAP_F_B")


class ActionKind(StrEnum):
    """What is computed; the letters are torch's.

    A backward (B) is the gradient of the input (I), which the stage before waits for, and the
    gradient of the weights (W), which nobody waits for.
    """

    FORWARD = "F"
    BACKWARD = "B"
    INPUT_GRAD = "I"
    WEIGHT_GRAD = "W"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One microbatch through one stage in one direction, counted from 0.

    Its text is torch's (`torch.distributed.pipelining`): `4F0` is stage 4, forward,
    microbatch 0. It parses back with `parse`.
    """

    kind: ActionKind
    stage: int
    microbatch: int

    @property
    def actions(self) -> tuple["Action", ...]:
        """The action itself, as a rank's step that holds one."""
        return (self,)

    @override
    def __str__(self) -> str:
        return f"{self.stage}{self.kind.value}{self.microbatch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """A forward and a backward in one slot: both inputs at its start, both results at its end."""

    forward: Action
    backward: Action

    @property
    def actions(self) -> tuple[Action, ...]:
        """Both parts."""
        return (self.forward, self.backward)

    @override
    def __str__(self) -> str:
        return f"({self.forward};{self.backward})OVERLAP_F_B"


Step = Action | Overlap
"""What a rank does in one slot."""


def parse(text: str) -> Action:
    """Return the action that `text` spells.

    Raises:
        UsageError: the text is not like `4F0`.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise UsageError(
            problem=f"'{text}' is not a schedule action",
            instead="an action is a stage, one of F B I W, and a microbatch: 4F0",
        )
    stage, kind, microbatch = match.groups()
    return Action(kind=ActionKind(kind), stage=int(stage), microbatch=int(microbatch))


def parse_step(text: str) -> Step:
    """Return the action or the overlapped pair, `(4F1;3B0)OVERLAP_F_B`, that `text` spells.

    Raises:
        UsageError: the text is neither.
    """
    match = _PAIR.fullmatch(text)
    if match is None:
        return parse(text)
    return Overlap(forward=parse(match[1]), backward=parse(match[2]))
