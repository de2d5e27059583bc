"""What agents, controller and visitors say to each other: the records of docs/protocols.md.

Standard library alone, as agents carry it. `launch.codec` turns records into lines and back; its
two functions are here again because whoever speaks the protocol needs nothing else. What ranks
say to their agent is in `launch.rank_lines`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar

from launch.codec import Family, Line, Record, UnknownKindError, WireError, decode, encode, family
from launch.rank_lines import RankLineRecord

__all__ = ["UnknownKindError", "WireError", "decode", "encode"]  # besides what is defined here

PROTOCOL_VERSION = 1

# Agent to controller.


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Line):
    """An agent's first record; `generation` and `ranks` name what still runs there."""

    KIND: ClassVar[str] = "hello"
    host: str
    agent_id: int
    pid: int
    slots: int
    version: str
    epoch: int
    generation: int
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankBeat(Record):
    """A rank's progress mark as its agent sees it; None while the rank has made no mark.

    Of a rank whose mark is old there is more: `groups` are pairs of a group's CRC32 and the rank's
    count in it, `state` is the letter of /proc/PID/stat.
    """

    rank: int
    pid: int
    seq: int | None
    step: int | None
    mark_age_s: float | None
    label: str | None
    groups: tuple[int, ...] | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat(Line):
    """An agent is alive, and so are these ranks; never journalled."""

    KIND: ClassVar[str] = "beat"
    monotonic_s: float
    ranks: tuple[RankBeat, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PortReserved(Line):
    """A free port on the agent's host for the generation's rendezvous."""

    KIND: ClassVar[str] = "port"
    generation: int
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Line):
    """A rank's process exists: forked in so many seconds, or `cold`, with the reason."""

    KIND: ClassVar[str] = "started"
    generation: int
    rank: int
    pid: int
    fork_s: float | None = None
    cold: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RankLine(Line):
    """A rank's line, passed on."""

    KIND: ClassVar[str] = "line"
    generation: int
    rank: int
    record: RankLineRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited(Line):
    """A rank's process is gone and reaped; exactly one of `exit_code` and `signal` is given."""

    KIND: ClassVar[str] = "exited"
    generation: int
    rank: int
    pid: int
    exit_code: int | None
    signal: int | None
    tail: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionFailed(Line):
    """An instruction could not be carried out; nothing of it is left running."""

    KIND: ClassVar[str] = "failed"
    generation: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPosition(Record):
    """Up to where a log was read: the file, by its inode, and the byte in it.

    `head` is the CRC32 of the file's first bytes, of those that were read: inodes are used again.
    """

    file: int
    offset: int
    head: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPiece(Line):
    """Lines of a log, and up to where they go; `problem` says why there are none.

    An agent answers `read_log` with it, and the controller passes it on to who asked.
    """

    KIND: ClassVar[str] = "log"
    ticket: int
    path: str
    lines: tuple[str, ...]
    position: LogPosition | None = None
    problem: str | None = None


# Controller to agent.


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome(Line):
    """The answer to `hello`; an agent obeys the highest epoch it has seen."""

    KIND: ClassVar[str] = "welcome"
    epoch: int
    beat_interval_s: float
    lease_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservePort(Line):
    """Find a free port for a generation's rendezvous; None means any."""

    KIND: ClassVar[str] = "reserve_port"
    generation: int
    port: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm(Line):
    """Keep a fork server of this command ready; what ranks will have in common is in `env`."""

    KIND: ClassVar[str] = "warm"
    argv: tuple[str, ...]
    env: Mapping[str, str]


class Binding(StrEnum):
    """Which processors a rank gets: `launch.binding` of the run file."""

    AUTO = "auto"
    NONE = "none"
    NUMA = "numa"
    CORES = "cores"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSlot(Record):
    """A rank and its place on the host."""

    rank: int
    local_rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRanks(Line):
    """Start these ranks of a generation; each writes its log into `log_dir`."""

    KIND: ClassVar[str] = "start"
    generation: int
    ranks: tuple[RankSlot, ...]
    argv: tuple[str, ...]
    env: Mapping[str, str]
    world_size: int
    local_world_size: int
    group_rank: int
    master_addr: str
    master_port: int
    resume_from: str | None
    log_dir: str
    log_limit_bytes: int = 64 << 20
    log_keep: int = 3
    binding: Binding = Binding.NONE


class StopHow(StrEnum):
    """How ranks are stopped: asked to save and leave, asked to end, or killed."""

    SAVE = "save"
    TERMINATE = "terminate"
    KILL = "kill"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRanks(Line):
    """Stop a generation's ranks; those that were asked are killed after `grace_s`."""

    KIND: ClassVar[str] = "stop"
    generation: int
    how: StopHow
    grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLog(Line):
    """Answer with lines of a log of this host; `ticket` says whose answer it is.

    Without a position these are the last `lines`, with one those that came after it.
    """

    KIND: ClassVar[str] = "read_log"
    ticket: int
    path: str
    lines: int
    position: LogPosition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave(Line):
    """Kill what is left and exit."""

    KIND: ClassVar[str] = "leave"


# Visitor (`llmorch stop`, `runs`, `logs`) and controller.


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit(Line):
    """A visitor's first record; answered with `status`."""

    KIND: ClassVar[str] = "visit"
    who: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AskStop(Line):
    """End the run: save and leave, or kill at once; answered with `status`."""

    KIND: ClassVar[str] = "ask_stop"
    how: StopHow


@dataclass(frozen=True, slots=True, kw_only=True)
class AskLog(Line):
    """Read a rank's log, of the present generation, on whatever host it is; see `read_log`."""

    KIND: ClassVar[str] = "ask_log"
    ticket: int
    rank: int
    lines: int
    position: LogPosition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Line):
    """Where the run is; `step` is the last one that is done, None before the first."""

    KIND: ClassVar[str] = "status"
    epoch: int
    phase: str
    generation: int
    step: int | None
    last_step: int
    stop_grace_s: float


# The handshake, in clear.


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge(Line):
    """The controller's first line."""

    KIND: ClassVar[str] = "challenge"
    protocol: int
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Response(Line):
    """The agent proves that it knows the secret."""

    KIND: ClassVar[str] = "response"
    nonce: str
    proof: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted(Line):
    """The controller proves that it knows the secret, too."""

    KIND: ClassVar[str] = "accepted"
    proof: str


ToController = (
    Hello | Beat | PortReserved | Started | RankLine | Exited | InstructionFailed | LogPiece
)
FromVisitor = Visit | AskStop | AskLog
ToListener = ToController | FromVisitor
ToAgent = Welcome | Warm | ReservePort | StartRanks | StopRanks | ReadLog | Leave
ToVisitor = Status | LogPiece
Handshake = Challenge | Response | Accepted

TO_CONTROLLER: Family[ToController] = family(
    Hello, Beat, PortReserved, Started, RankLine, Exited, InstructionFailed, LogPiece
)
FROM_VISITOR: Family[FromVisitor] = family(Visit, AskStop, AskLog)
TO_LISTENER: Family[ToListener] = MappingProxyType({**TO_CONTROLLER, **FROM_VISITOR})
TO_AGENT: Family[ToAgent] = family(
    Welcome, Warm, ReservePort, StartRanks, StopRanks, ReadLog, Leave
)
TO_VISITOR: Family[ToVisitor] = family(Status, LogPiece)
HANDSHAKE: Family[Handshake] = family(Challenge, Response, Accepted)
