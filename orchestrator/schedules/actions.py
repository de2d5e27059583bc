"""One unit of pipeline work: a stage runs a microbatch forward or backward."""

import re
from dataclasses import dataclass
from enum import StrEnum

from typing_extensions import override

from orchestrator.errors import UsageError

_TEXT = re.compile(r"([0-9]+)([FB])([0-9]+)")


class ActionKind(StrEnum):
    """What is computed; the letters are torch's."""

    FORWARD = "F"
    BACKWARD = "B"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One microbatch through one stage in one direction, counted from 0.

    Its text is torch's (`torch.distributed.pipelining`): `4F0` is stage 4, forward,
    microbatch 0. It parses back with `parse`.
    """

    kind: ActionKind
    stage: int
    microbatch: int

    @override
    def __str__(self) -> str:
        return f"{self.stage}{self.kind.value}{self.microbatch}"


def parse(text: str) -> Action:
    """Return the action that `text` spells.

    Raises:
        UsageError: the text is not like `4F0`.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise UsageError(
            problem=f"'{text}' is not a schedule action",
            instead="an action is a stage, F or B, and a microbatch: 4F0",
        )
    stage, kind, microbatch = match.groups()
    return Action(kind=ActionKind(kind), stage=int(stage), microbatch=int(microbatch))
