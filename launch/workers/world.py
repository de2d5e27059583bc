"""A rank's place among the others, as its environment says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Where this rank is and where the others meet; a rank started alone is a world of one."""

    rank: int
    local_rank: int
    size: int
    master_addr: str
    master_port: int
    generation: str
    hosts_store: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read what an agent or torchrun set."""
        rank = int(environment.get("RANK", "0"))
        # torchrun keeps its store over restarts, under the same keys: its count of restarts
        # stands in for the generation, or ranks would dial their dead predecessors.
        torchrun_hosts = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        restarts = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
        return cls(
            rank=rank,
            local_rank=int(environment.get("LOCAL_RANK", "0")),
            size=int(environment.get("WORLD_SIZE", "1")),
            master_addr=environment.get("MASTER_ADDR", "127.0.0.1"),
            master_port=int(environment.get("MASTER_PORT", "0")),
            generation=environment.get("LLMORCH_GENERATION", restarts),
            hosts_store=rank == 0 and not torchrun_hosts,
        )
