"""The orders that start a generation, one for each agent."""

from dataclasses import dataclass

from launch.request import LaunchRequest
from launch.run_directory import RunDirectory
from launch.supervisor.events import AgentPlace
from launch.supervisor.instructions import StartGeneration
from launch.wire import RankSlot, StartRanks
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
            argv=self._argv(),
            env=self._env(number),
            world_size=self.request.world_size,
            local_world_size=place.slots,
            group_rank=self.places.index(place),
            master_addr=self.places[0].address,
            master_port=generation.port,
            resume_from=None if step is None else str(self.directory.checkpoint(step)),
            log_dir=str(self.directory.generation_logs(number)),
        )

    def _argv(self) -> tuple[str, ...]:
        bundle = str(self.directory.bundle)
        return tuple(word.replace(BUNDLE_PLACEHOLDER, bundle) for word in self.request.argv)

    def _env(self, generation: int) -> dict[str, str]:
        return dict(self.request.env) | {
            "LLMORCH_RUN_ID": self.request.run_name,
            "LLMORCH_STAGING_DIR": str(self.directory.generation_staging(generation)),
        }
