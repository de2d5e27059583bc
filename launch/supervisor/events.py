"""What can happen to a run, as the journal keeps it.

An event carries the time at which it was noticed (`at_s`, seconds since 1970), because the state
machine has no clock. An event of ranks carries its generation, so that a late one can be told.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from launch.codec import Family, Line, Record, family
from launch.rank_lines import StagedFile
from launch.supervisor.budgets import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening(Line):
    """What every event has."""

    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OfGeneration(Happening):
    """What every event has that concerns one attempt."""

    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPlace(Record):
    """An agent's share of the ranks: `slots` of them from `first_rank` on, reached at `address`.

    `host` is the name by which people know it; journals of old have none.
    """

    agent_id: int
    address: str
    first_rank: int
    slots: int
    host: str | None = None

    @property
    def spoken(self) -> str:
        """The agent as a sentence has it."""
        return f"agent {self.agent_id} on {self.host or self.address}"

    @property
    def ranks(self) -> frozenset[int]:
        """The numbers of its ranks."""
        return frozenset(range(self.first_rank, self.first_rank + self.slots))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTerms(Record):
    """What stays the same during a controller's reign; `rendezvous_port` None means any."""

    agents: tuple[AgentPlace, ...]
    last_step: int
    max_restarts: int
    keep_checkpoints: int
    join_timeout_s: float
    save_grace_s: float
    stop_timeout_s: float
    rendezvous_port: int | None
    budgets: tuple[Budget, ...] = ()

    @property
    def world_size(self) -> int:
        """How many ranks there are; they are numbered agent by agent, from 0."""
        last = self.agents[-1]
        return last.first_rank + last.slots

    @property
    def ranks(self) -> frozenset[int]:
        """The numbers of all ranks."""
        return frozenset(range(self.world_size))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOpened(Happening):
    """A controller takes the run: the first record of its reign.

    One that `takes_over` a generation goes on with it, agents and ranks included;
    another one begins with nothing running. `generation` is the last one before it, `checkpoints`
    are the steps committed so far. `run_name` and `log_folder` (of each host's own; None is the run
    directory) are for who looks at the run.
    """

    KIND: ClassVar[str] = "run_opened"
    epoch: int
    terms: RunTerms
    generation: int
    checkpoints: tuple[int, ...]
    run_name: str | None = None
    log_folder: str | None = None
    takes_over: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentJoined(Happening):
    """An agent connected and nothing runs there."""

    KIND: ClassVar[str] = "agent_joined"
    agent_id: int
    host: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentAttached(Happening):
    """An agent of a dead controller came back; the order it knows last, and what runs of it."""

    KIND: ClassVar[str] = "agent_attached"
    agent_id: int
    host: str
    pid: int
    generation: int
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLost(Happening):
    """An agent is gone, and with it its ranks; `reason` says how that was noticed."""

    KIND: ClassVar[str] = "agent_lost"
    agent_id: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PortGranted(OfGeneration):
    """The rendezvous has a port."""

    KIND: ClassVar[str] = "port_granted"
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionRefused(OfGeneration):
    """An agent could not do what it was told, and runs no rank of this generation."""

    KIND: ClassVar[str] = "instruction_refused"
    agent_id: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RankStarted(OfGeneration):
    """A rank's process exists: forked in so many seconds, or `cold`, with the reason."""

    KIND: ClassVar[str] = "rank_started"
    rank: int
    pid: int
    fork_s: float | None = None
    cold: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RanksStepping(OfGeneration):
    """Every rank of the generation has done a step; `step` is the first that all have done."""

    KIND: ClassVar[str] = "ranks_stepping"
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RankStaged(OfGeneration):
    """A rank's part of a checkpoint is on disk: these files, if it says which."""

    KIND: ClassVar[str] = "rank_staged"
    rank: int
    step: int
    files: tuple[StagedFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFinished(OfGeneration):
    """A rank has done its last step."""

    KIND: ClassVar[str] = "rank_finished"
    rank: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RankLeft(OfGeneration):
    """A rank leaves because it was asked to."""

    KIND: ClassVar[str] = "rank_left"
    rank: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRefused(OfGeneration):
    """A rank's engine refuses the configuration."""

    KIND: ClassVar[str] = "rank_refused"
    rank: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RankExited(OfGeneration):
    """A rank's process is gone."""

    KIND: ClassVar[str] = "rank_exited"
    rank: int
    exit_code: int | None
    signal: int | None
    tail: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RanksHung(OfGeneration):
    """Ranks make no progress; `rank` holds up the others, None where nobody can be named."""

    KIND: ClassVar[str] = "ranks_hung"
    rank: int | None
    stalled_s: float
    limit_s: float
    phase: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointCommitted(OfGeneration):
    """A checkpoint is complete, durable and the latest."""

    KIND: ClassVar[str] = "checkpoint_committed"
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRejected(OfGeneration):
    """All ranks staged a checkpoint, and yet it is not whole."""

    KIND: ClassVar[str] = "checkpoint_rejected"
    step: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointVerified(OfGeneration):
    """The committed checkpoint that the generation is to start from is as it was committed."""

    KIND: ClassVar[str] = "checkpoint_verified"
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointTorn(OfGeneration):
    """A committed checkpoint is no longer what was committed."""

    KIND: ClassVar[str] = "checkpoint_torn"
    step: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptAsked(Happening):
    """Somebody asks the run to end: Ctrl-C, SIGTERM."""

    KIND: ClassVar[str] = "interrupt_asked"
    signal: str


class Deadline(StrEnum):
    """What is waited for with a limit."""

    ATTACH = "attach"
    JOIN = "join"
    PORT = "port"
    LEAVE = "leave"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlinePassed(Happening):
    """A wait is over; `serial` says which, for a newer one may have replaced it."""

    KIND: ClassVar[str] = "deadline_passed"
    deadline: Deadline
    serial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageFailed(Happening):
    """The run directory cannot be written."""

    KIND: ClassVar[str] = "storage_failed"
    path: str
    reason: str


Event = (
    AgentJoined
    | AgentAttached
    | AgentLost
    | PortGranted
    | InstructionRefused
    | RankStarted
    | RanksStepping
    | RankStaged
    | RankFinished
    | RankLeft
    | RankRefused
    | RankExited
    | RanksHung
    | CheckpointCommitted
    | CheckpointRejected
    | CheckpointVerified
    | CheckpointTorn
    | InterruptAsked
    | DeadlinePassed
    | StorageFailed
)

EVENTS: Family[RunOpened | Event] = family(
    RunOpened,
    AgentJoined,
    AgentAttached,
    AgentLost,
    PortGranted,
    InstructionRefused,
    RankStarted,
    RanksStepping,
    RankStaged,
    RankFinished,
    RankLeft,
    RankRefused,
    RankExited,
    RanksHung,
    CheckpointCommitted,
    CheckpointRejected,
    CheckpointVerified,
    CheckpointTorn,
    InterruptAsked,
    DeadlinePassed,
    StorageFailed,
)
