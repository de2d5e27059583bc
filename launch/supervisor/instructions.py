"""What the state machine wants done; `launch.supervisor.loop` does it."""

from dataclasses import dataclass
from typing import ClassVar

from launch.codec import Family, Line, family
from launch.supervisor.events import Deadline
from launch.supervisor.verdict import Verdict
from launch.wire import StopHow


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAgent(Line):
    """Start an agent, after what is left of its former life has ended."""

    KIND: ClassVar[str] = "start_agent"
    agent_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachAgent(Line):
    """Wait for an agent that a dead controller started, and say so when it is gone."""

    KIND: ClassVar[str] = "attach_agent"
    agent_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AskPort(Line):
    """Ask an agent for a port for the generation's rendezvous; None means any."""

    KIND: ClassVar[str] = "ask_port"
    agent_id: int
    generation: int
    port: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartGeneration(Line):
    """Start all ranks; `resume_step` names the committed checkpoint, None starts from scratch."""

    KIND: ClassVar[str] = "start_generation"
    generation: int
    port: int
    resume_step: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopGeneration(Line):
    """Stop all ranks."""

    KIND: ClassVar[str] = "stop_generation"
    generation: int
    how: StopHow
    grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitCheckpoint(Line):
    """Verify what the ranks staged and make it the latest checkpoint."""

    KIND: ClassVar[str] = "commit_checkpoint"
    generation: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyCheckpoint(Line):
    """Look whether a committed checkpoint is still what was committed; a generation needs it."""

    KIND: ClassVar[str] = "verify_checkpoint"
    generation: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PutAsideCheckpoint(Line):
    """Give a torn checkpoint a name that nobody resumes from; `latest` is the newest one left."""

    KIND: ClassVar[str] = "put_aside_checkpoint"
    step: int
    latest: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteCheckpoint(Line):
    """Delete a committed checkpoint that newer ones replace."""

    KIND: ClassVar[str] = "delete_checkpoint"
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDeadline(Line):
    """Answer with `DeadlinePassed` after `after_s`; replaces the deadline before it."""

    KIND: ClassVar[str] = "set_deadline"
    deadline: Deadline
    serial: int
    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Say(Line):
    """Tell whoever watches what was decided and why, in one sentence."""

    KIND: ClassVar[str] = "say"
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseRun(Line):
    """Dismiss the agents and end."""

    KIND: ClassVar[str] = "close_run"
    verdict: Verdict
    reason: str


Instruction = (
    StartAgent
    | AttachAgent
    | AskPort
    | StartGeneration
    | StopGeneration
    | CommitCheckpoint
    | VerifyCheckpoint
    | PutAsideCheckpoint
    | DeleteCheckpoint
    | SetDeadline
    | Say
    | CloseRun
)

INSTRUCTIONS: Family[Instruction] = family(
    StartAgent,
    AttachAgent,
    AskPort,
    StartGeneration,
    StopGeneration,
    CommitCheckpoint,
    VerifyCheckpoint,
    PutAsideCheckpoint,
    DeleteCheckpoint,
    SetDeadline,
    Say,
    CloseRun,
)
