"""The environment of a rank: the table of docs/protocols.md, section 1."""

from collections.abc import Mapping
from dataclasses import dataclass

from launch.wire import RankSlot, StartRanks

_OURS = "LLMORCH_"
AGENT_MARKER = "LLMORCH_AGENT"
_DEFAULTS = {
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",  # what a rank printed before it was killed is in its log
}


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
    kept = {name: value for name, value in inherited.items() if not name.startswith(_OURS)}
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
    given = _DEFAULTS | kept | dict(order.env)
    if doors.gpus is not None:
        given.setdefault("CUDA_VISIBLE_DEVICES", doors.gpus)
    return given | promised
