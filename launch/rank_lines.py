"""What a rank says to its agent: lines on LLMORCH_RANK_FD, docs/protocols.md, section 2.

Standard library alone, as agents and ranks carry it.
"""

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from launch.codec import Family, Line, Record, family

_REASON_LIMIT_BYTES = 3500  # leaves room for the rest of a rank line


class RankPhase(StrEnum):
    """What a rank is doing, so that a long phase is not taken for a hang."""

    START = "start"
    LOAD = "load"
    TRAIN = "train"
    SAVE = "save"
    EVALUATE = "evaluate"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True, kw_only=True)
class FromRank(Line):
    """What every rank line is: short enough that its write is atomic (PIPE_BUF on Linux)."""

    LIMIT_BYTES: ClassVar[int] = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseLine(FromRank):
    """The rank enters a phase."""

    KIND: ClassVar[str] = "phase"
    phase: RankPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLine(FromRank):
    """An optimizer step ended; `loss` is the mean over the global batch, None where unknown.

    JSON has no NaN: a number that is not finite becomes None here, and `note` says so.
    `memory_bytes` is the most this rank has held so far, `skipped` is 1 when the optimizer left the
    weights as they were.
    """

    KIND: ClassVar[str] = "step"
    step: int
    loss: float | None
    grad_norm: float | None
    learning_rate: float | None
    tokens: int
    duration_s: float
    note: str | None = None
    memory_bytes: int | None = None
    skipped: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("loss", self.loss), ("grad_norm", self.grad_norm)):
            if value is not None and not math.isfinite(value):
                object.__setattr__(self, name, None)
                spoken = name.replace("_", " ")
                note = f"{self.note}, " if self.note else ""
                object.__setattr__(self, "note", f"{note}non-finite {spoken}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationLine(FromRank):
    """The mean loss over held-out samples after a step; None when it is not a finite number."""

    KIND: ClassVar[str] = "evaluation"
    step: int
    loss: float | None
    tokens: int
    duration_s: float

    def __post_init__(self) -> None:
        if self.loss is not None and not math.isfinite(self.loss):
            object.__setattr__(self, "loss", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile(Record):
    """A file of a checkpoint, as the rank that wrote it knows it."""

    name: str
    size_bytes: int
    crc32: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointLine(FromRank):
    """This rank's part of a staged checkpoint is on disk: these `files`, if the rank says which."""

    KIND: ClassVar[str] = "checkpoint"
    step: int
    path: str
    duration_s: float
    files: tuple[StagedFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedLine(FromRank):
    """The last step is done and staged."""

    KIND: ClassVar[str] = "finished"
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftLine(FromRank):
    """The rank leaves by request after staging `step`."""

    KIND: ClassVar[str] = "left"
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedLine(FromRank):
    """The engine refuses the configuration; trying again cannot help."""

    KIND: ClassVar[str] = "refused"
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", _shorten(self.reason, limit_bytes=_REASON_LIMIT_BYTES))


RankLineRecord = (
    PhaseLine | StepLine | EvaluationLine | CheckpointLine | FinishedLine | LeftLine | RefusedLine
)

RANK_LINES: Family[RankLineRecord] = family(
    PhaseLine, StepLine, EvaluationLine, CheckpointLine, FinishedLine, LeftLine, RefusedLine
)


def _shorten(text: str, *, limit_bytes: int) -> str:
    while len(json.dumps(text, ensure_ascii=False).encode(errors="replace")) > limit_bytes:
        text = text[: len(text) * 3 // 4]
    return text
