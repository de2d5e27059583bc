"""What visitors may learn and ask of a run, answered by its controller."""

from dataclasses import dataclass

from launch.clock import Clock
from launch.supervisor.events import AgentPlace, InterruptAsked
from launch.supervisor.loop import Controller
from launch.supervisor.orders import Orders
from launch.supervisor.run_state import Phase
from launch.wire import Status, StopHow


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDesk:
    """Speaks for one reign."""

    controller: Controller
    orders: Orders
    epoch: int
    clock: Clock

    def status(self) -> Status:
        """Where the run is."""
        state = self.controller.state
        return Status(
            epoch=self.epoch,
            phase=state.phase,
            generation=state.generation,
            step=self.controller.progress.last_step,
            last_step=state.terms.last_step,
            stop_grace_s=state.terms.save_grace_s,
        )

    def ask_stop(self, how: StopHow, *, who: str) -> None:
        """As a signal would: the first saves and leaves, one more kills; `kill` does both."""
        self._interrupt(who)
        if how is StopHow.KILL and self.controller.state.phase is Phase.LEAVING:
            self._interrupt(who)

    def log_of(self, rank: int) -> tuple[AgentPlace, str] | None:
        """The agent and the path of a rank's log in the present generation."""
        place = self.orders.place_of(rank)
        if place is None:
            return None
        return place, self.orders.rank_log(self.controller.state.generation, rank)

    def _interrupt(self, who: str) -> None:
        self.controller.post(InterruptAsked(at_s=self.clock.wall_s(), signal=f"stop by {who}"))
