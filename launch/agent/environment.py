"""The environment of a rank: the table of docs/protocols.md, section 1."""

from collections.abc import Mapping
from dataclasses import dataclass

from launch.wire import RankSlot, StartRanks, Warm

_OURS = "LLMORCH_"
AGENT_MARKER = "LLMORCH_AGENT"
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
_DEFAULTS = {
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",  # what a rank printed before it was killed is in its log
}
# Each rank's own, or each generation's: a test holds that no engine reads them when it is imported.
RANKS_OWN = frozenset(
    {
        *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK"),
        *("MASTER_ADDR", "MASTER_PORT", "LLMORCH_GENERATION", "LLMORCH_STAGING_DIR"),
        *("LLMORCH_RESUME_FROM", "LLMORCH_RANK_FD", "LLMORCH_MARK_FILE"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankDoors:
    """How a rank reaches its agent, and what it finds on its host.

    The pipe takes its lines, the file its marks.
    """

    line_descriptor: int
    mark_file: str
    marker: str
    gpus: str | None  # CUDA_VISIBLE_DEVICES; None leaves it out


def rank_environment(
    order: StartRanks, slot: RankSlot, *, doors: RankDoors, inherited: Mapping[str, str]
) -> dict[str, str]:
    """All variables of a rank: what the agent has, then the run's, then what we promise.

    What we promise wins: a user who exports RANK would otherwise start the same rank twice.
    """
    promised = {
        "RANK": str(slot.rank),
        "LOCAL_RANK": str(slot.local_rank),
        "WORLD_SIZE": str(order.world_size),
        "LOCAL_WORLD_SIZE": str(order.local_world_size),
        "GROUP_RANK": str(order.group_rank),
        "NODE_RANK": str(order.group_rank),
        "MASTER_ADDR": order.master_addr,
        "MASTER_PORT": str(order.master_port),
        "LLMORCH_GENERATION": str(order.generation),
        "LLMORCH_RANK_FD": str(doors.line_descriptor),
        "LLMORCH_MARK_FILE": doors.mark_file,
        AGENT_MARKER: doors.marker,
    }
    if order.resume_from is not None:
        promised["LLMORCH_RESUME_FROM"] = order.resume_from
    return _given(order.env, inherited=inherited, gpus=doors.gpus) | promised


def warm_environment(
    order: Warm, *, marker: str, gpus: str | None, inherited: Mapping[str, str]
) -> dict[str, str]:
    """The fork server's variables: those that every rank of every generation will have."""
    own = {name: value for name, value in inherited.items() if name not in RANKS_OWN}
    return _given(order.env, inherited=own, gpus=gpus) | {AGENT_MARKER: marker}


def strays(rank: Mapping[str, str], server: Mapping[str, str]) -> tuple[str, ...]:
    """The variables that a rank would find otherwise than its imports did, in the fork server."""
    names = (rank.keys() | server.keys()) - RANKS_OWN
    return tuple(sorted(name for name in names if rank.get(name) != server.get(name)))


def _given(
    env: Mapping[str, str], *, inherited: Mapping[str, str], gpus: str | None
) -> dict[str, str]:
    kept = {name: value for name, value in inherited.items() if not name.startswith(_OURS)}
    given = _DEFAULTS | kept | dict(env)
    if gpus is not None:
        given.setdefault(VISIBLE_GPUS, gpus)
    return given
