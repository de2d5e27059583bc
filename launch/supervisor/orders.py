"""The orders that start a generation, one for each agent."""

from bisect import bisect_right
from dataclasses import dataclass

from launch.request import LaunchRequest
from launch.run_directory import RunDirectory
from launch.supervisor.events import AgentPlace
from launch.supervisor.instructions import StartGeneration
from launch.wire import Binding, RankSlot, StartRanks, Warm
from orchestrator.records.bundle import BUNDLE_PLACEHOLDER


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Fills in what an instruction leaves open: places, paths, the command, the environment."""

    request: LaunchRequest
    places: tuple[AgentPlace, ...]
    directory: RunDirectory

    def start(self, generation: StartGeneration, place: AgentPlace) -> StartRanks:
        """What one agent is told when a generation starts."""
        number, step = generation.generation, generation.resume_step
        return StartRanks(
            generation=number,
            ranks=tuple(
                RankSlot(rank=rank, local_rank=local)
                for local, rank in enumerate(sorted(place.ranks))
            ),
            argv=self._filled(self.request.argv),
            env=self._env(number),
            world_size=self.request.world_size,
            local_world_size=place.slots,
            group_rank=self.places.index(place),
            master_addr=self.places[0].address,
            master_port=generation.port,
            resume_from=None if step is None else str(self.directory.checkpoint(step)),
            log_dir=self.log_folder(number),
            log_limit_bytes=self.request.ranks.log_limit_bytes,
            log_keep=self.request.ranks.log_keep,
            binding=Binding(self.request.ranks.binding.value),
        )

    def warm(self) -> Warm | None:
        """What every agent keeps ready between generations; None where ranks start cold."""
        if not self.request.warm:
            return None
        return Warm(argv=self._filled(self.request.warm), env=self._common_env())

    def log_folder(self, generation: int) -> str:
        """Where each host writes the logs of its ranks."""
        local = self.request.ranks.log_folder
        if local is None:
            return str(self.directory.generation_logs(generation))
        return f"{local}/{self.directory.local_name}/generation-{generation}"

    def rank_log(self, generation: int, rank: int) -> str:
        """A rank's log, on the rank's host."""
        return f"{self.log_folder(generation)}/{self.directory.rank_log(generation, rank).name}"

    def place_of(self, rank: int) -> AgentPlace | None:
        """The agent that runs a rank."""
        starts = [place.first_rank for place in self.places]
        place = self.places[bisect_right(starts, rank) - 1] if rank >= 0 else None
        return place if place is not None and rank in place.ranks else None

    def _filled(self, command: tuple[str, ...]) -> tuple[str, ...]:
        bundle = str(self.directory.bundle)
        return tuple(word.replace(BUNDLE_PLACEHOLDER, bundle) for word in command)

    def _common_env(self) -> dict[str, str]:
        return dict(self.request.env) | {"LLMORCH_RUN_ID": self.request.run_name}

    def _env(self, generation: int) -> dict[str, str]:
        staging = str(self.directory.generation_staging(generation))
        return self._common_env() | {"LLMORCH_STAGING_DIR": staging}
