"""What an agent and its host's fork server say to each other: docs/protocols.md, section 5.

Standard library alone, as the agent carries it. Each record is one packet of a socket pair that
nobody else has; the descriptors of `fork` travel beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from launch.codec import Family, Line, family


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkRank(Line):
    """Fork a rank that runs this command; None leaves it all the processors of the server.

    Beside it travel three descriptors: where the rank prints, where it speaks, its mark file.
    """

    KIND: ClassVar[str] = "fork"
    argv: tuple[str, ...]
    env: Mapping[str, str]
    processors: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmed(Line):
    """Everything is imported, and this process may be forked."""

    KIND: ClassVar[str] = "warmed"
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NotWarm(Line):
    """This process can never be forked; it ends."""

    KIND: ClassVar[str] = "not_warm"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked(Line):
    """The rank's process is a child of the agent, and leads a session of its own."""

    KIND: ClassVar[str] = "forked"
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotForked(Line):
    """There is no new process."""

    KIND: ClassVar[str] = "not_forked"
    reason: str


FromForkServer = Warmed | NotWarm | Forked | NotForked

TO_FORK_SERVER: Family[ForkRank] = family(ForkRank)
FROM_FORK_SERVER: Family[FromForkServer] = family(Warmed, NotWarm, Forked, NotForked)
