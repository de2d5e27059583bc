"""The fakes keep the promises for which tests rely on them."""

import pytest

from launch.supervisor.instructions import Say
from launch.supervisor.run_state import Phase
from launch.wire import Leave, RankSlot, StartRanks
from tests.fakes.agents import FakeStarter
from tests.fakes.clock import FakeClock
from tests.fakes.journal import FakeJournal
from tests.fakes.link import FakeLink
from tests.fakes.ranks import FakeRanks
from tests.fakes.reactor import FakeReactor
from tests.fakes.world import FakeWorld, terms_of


def test_the_clock_goes_on_only_when_told() -> None:
    clock = FakeClock(wall_s=100.0)

    clock.advance(2.5)

    assert (clock.monotonic_s(), clock.wall_s()) == (2.5, 102.5)


def test_timers_come_in_the_order_of_their_times_at_their_times() -> None:
    clock = FakeClock()
    reactor = FakeReactor(clock)
    calls: list[tuple[str, float]] = []
    reactor.call_after(2.0, lambda: calls.append(("late", clock.monotonic_s())))
    reactor.call_after(1.0, lambda: calls.append(("early", clock.monotonic_s())))

    reactor.advance(3.0)

    assert calls == [("early", 1.0), ("late", 2.0)]
    assert clock.monotonic_s() == 3.0


def test_a_cancelled_timer_does_not_come() -> None:
    reactor = FakeReactor(FakeClock())
    calls: list[str] = []
    reactor.call_after(1.0, lambda: calls.append("never")).cancel()

    reactor.advance(2.0)

    assert calls == []


def test_a_timer_that_is_set_by_a_timer_comes_in_the_same_advance() -> None:
    reactor = FakeReactor(FakeClock())
    calls: list[str] = []
    reactor.call_after(1.0, lambda: reactor.call_after(1.0, lambda: calls.append("second")))

    reactor.advance(2.0)

    assert calls == ["second"]


def test_the_worker_answers_when_the_reactor_turns() -> None:
    reactor = FakeReactor(FakeClock())
    answers: list[int] = []
    reactor.in_worker(lambda: 42, answers.append)
    before = list(answers)

    reactor.settle()

    assert (before, answers) == ([], [42])


def test_a_closed_link_sends_nothing_and_tells_its_owner_once() -> None:
    told: list[str] = []

    class Owner:
        def lost(self, _, reason) -> None:
            told.append(reason)

    link = FakeLink(Owner())
    link.close("first")
    link.close("second")
    link.send(Leave())

    assert (told, link.sent) == (["first"], [])


def test_a_full_journal_refuses_like_a_full_disk() -> None:
    journal = FakeJournal()
    journal.decided(Say(sentence="fits"))
    journal.is_full = True

    with pytest.raises(OSError, match="No space left"):
        journal.decided(Say(sentence="does not"))
    assert len(journal.entries) == 1


def test_fake_ranks_run_until_they_are_killed() -> None:
    ranks = FakeRanks()
    ranks.start(
        StartRanks(
            generation=1,
            ranks=(RankSlot(rank=3, local_rank=0),),
            argv=(),
            env={},
            world_size=4,
            local_world_size=1,
            group_rank=0,
            master_addr="h",
            master_port=1,
            resume_from=None,
            log_dir="/",
        )
    )
    before = ranks.running

    ranks.kill()

    assert (before, ranks.running) == ((3,), ())


def test_a_starter_can_fail() -> None:
    starter = FakeStarter()
    starter.problem = "no such file"

    with pytest.raises(Exception, match="cannot start python3: no such file"):
        starter.start(None, reactor=None, ended=print)
    assert starter.started == []


def test_a_world_left_in_peace_trains_to_its_end() -> None:
    world = FakeWorld(terms_of(hosts=1, slots=2, last_step=2))

    world.let_peace(until=Phase.ENDED)

    assert world.stored == {1, 2}


def test_a_world_breaks_off_when_a_rule_of_the_run_is_broken() -> None:
    world = FakeWorld(terms_of(hosts=1, slots=1, last_step=5))
    world.let_peace(until=Phase.RUNNING)
    order = next(e.instruction for e in world.entries if "StartGeneration" in str(e))

    with pytest.raises(AssertionError, match=r"starts while ranks \[0\] run"):
        world._carry_out((order,))


def test_what_a_lost_agent_had_to_say_is_lost() -> None:
    world = FakeWorld(terms_of(hosts=1, slots=1))
    world.let_peace(until=Phase.STARTING)
    before = len(world.agents[0].says)

    world.let("lose 0")

    assert (before > 0, len(world.agents[0].says)) == (True, 0)
