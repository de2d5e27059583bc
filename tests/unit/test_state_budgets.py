"""Budgets: how often a run may fail in each way, and what time forgives."""

import pytest

from launch.supervisor.budgets import Account, Budget, Failure, charge
from launch.supervisor.events import RankExited, RanksHung
from launch.supervisor.instructions import Say
from launch.supervisor.run_state import Phase
from launch.supervisor.verdict import Verdict
from tests.fakes.running import hear_everything, running
from tests.fakes.world import FakeWorld

HOURLY = Budget(failure=Failure.HANG, most=2, forgiven_after_s=3600.0)


def level_after(*times_s: float) -> float:
    accounts: tuple[Account, ...] = ()
    for at_s in times_s:
        accounts = charge(accounts, [HOURLY], Failure.HANG, at_s=at_s).accounts
    return accounts[0].level


@pytest.mark.parametrize(
    ("times_s", "level"),
    [
        ((0.0,), 1.0),
        ((0.0, 0.0), 2.0),
        ((0.0, 1800.0), 1.5),
        ((0.0, 3600.0), 1.0),
        ((0.0, 90_000.0), 1.0),
        ((7200.0, 0.0), 2.0),
    ],
    ids=["first", "at once", "half forgiven", "forgiven", "long ago", "clock set back"],
)
def test_time_forgives_one_failure_an_hour(times_s: tuple[float, ...], level: float) -> None:
    assert level_after(*times_s) == pytest.approx(level)


def test_one_failure_too_many_overdraws_its_class_and_no_other() -> None:
    other = Budget(failure=Failure.HOST, most=2, forgiven_after_s=3600.0)
    full = (Account(failure=Failure.HANG, level=2.0, at_s=0.0),)

    hang = charge(full, [HOURLY, other], Failure.HANG, at_s=1.0)
    host = charge(full, [HOURLY, other], Failure.HOST, at_s=1.0)
    unbound = charge(full, [HOURLY], Failure.PROGRAM, at_s=1.0)

    assert hang.overdrawn == (
        "more than 2 failures of the class 'hang', of which one is forgiven every 3600 s"
    )
    assert (host.overdrawn, host.count) == (None, "host failure 1 of 2")
    assert (unbound.overdrawn, unbound.accounts) == (None, full)


def test_failures_of_one_class_end_a_run_that_makes_progress() -> None:
    budget = Budget(failure=Failure.PROGRAM, most=2, forgiven_after_s=1e9)
    world = running(last_step=9, max_restarts=1, budgets=(budget,))

    for _ in range(3):
        world.let("crash 0")
        hear_everything(world)
        if world.state.phase is Phase.STOPPING:
            make_progress(world)

    assert world.state.verdict is Verdict.FAILED
    assert world.state.reason == (
        "rank 0 failed with exit code 1; given up after more than 2 failures of the class "
        "'program', of which one is forgiven every 1e+09 s"
    )


def test_a_restart_says_what_it_costs() -> None:
    world = running(budgets=(Budget(failure=Failure.KILLED, most=7, forgiven_after_s=60.0),))

    world.post(RankExited(at_s=1.0, generation=1, rank=0, exit_code=None, signal=9, tail=()))

    assert world.last(Say).sentence == (
        "rank 0 was ended by SIGKILL: starting again from step 1 "
        "(restart 1 of 3 without a new checkpoint, killed failure 1 of 7)"
    )


def test_a_hang_is_charged_to_hangs() -> None:
    world = running(budgets=(Budget(failure=Failure.HANG, most=0, forgiven_after_s=60.0),))

    world.post(
        RanksHung(
            at_s=1.0, generation=1, rank=1, stalled_s=3.0, limit_s=2.0, phase="train", why="why"
        )
    )

    assert world.state.verdict is Verdict.FAILED
    assert "the class 'hang'" in world.state.reason


def make_progress(world: FakeWorld) -> None:
    """Restart, and commit a checkpoint that is newer than all before."""
    world.let_peace(until=Phase.STARTING)
    hear_everything(world)
    world.let("go on 0", "go on 1")
    hear_everything(world)
    world.let("commit")
