"""What the supervisor decides when ranks hang."""

import pytest

from launch.supervisor.events import RanksHung
from launch.supervisor.instructions import StopGeneration
from launch.supervisor.run_state import Phase
from launch.supervisor.verdict import Verdict
from launch.wire import StopHow
from tests.fakes.running import running


@pytest.mark.parametrize(("rank", "who"), [(1, "rank 1 hangs"), (None, "ranks hang")])
def test_a_hang_stops_the_generation_and_says_who_is_guilty(rank, who: str) -> None:
    world = running()

    world.post(
        RanksHung(
            at_s=9.0,
            generation=1,
            rank=rank,
            stalled_s=2.31,
            limit_s=2.0,
            phase="train",
            why="it stopped",
        )
    )

    assert world.last(StopGeneration).how is StopHow.KILL
    reason = f"{who}: no progress for 2.3 s, past the 2.0 s of train; it stopped"
    assert world.state.restarts[-1].reason == reason


def test_ranks_that_hang_instead_of_leaving_are_killed_at_once() -> None:
    world = running()
    world.let("interrupt", "hang 1")

    assert world.last(StopGeneration).how is StopHow.KILL
    world.let_peace(until=Phase.ENDED)
    assert world.state.verdict is Verdict.INTERRUPTED
