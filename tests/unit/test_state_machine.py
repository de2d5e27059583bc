"""What the supervisor decides, one situation at a time."""

import pytest

from launch.supervisor.events import DeadlinePassed, RankExited
from launch.supervisor.instructions import (
    AskPort,
    CloseRun,
    DeleteCheckpoint,
    PutAsideCheckpoint,
    Say,
    StartAgent,
    StartGeneration,
    StopGeneration,
)
from launch.supervisor.run_state import Phase, spoken
from launch.supervisor.state import handle
from launch.supervisor.verdict import Verdict
from launch.wire import StopHow
from tests.fakes.running import hear_everything, running
from tests.fakes.world import FakeWorld, terms_of


def test_a_dead_rank_stops_its_generation() -> None:
    world = running()

    world.let("crash 0", "hear 0")

    assert world.state.phase is Phase.STOPPING
    assert world.last(StopGeneration).how is StopHow.KILL


def test_the_next_generation_resumes_from_the_latest_checkpoint_on_a_fresh_port() -> None:
    world = running()
    first = world.last(StartGeneration)

    world.let("crash 0", "hear 0")
    world.let_peace(until=Phase.STARTING)

    second = world.last(StartGeneration)
    assert (second.generation, second.resume_step) == (2, 1)
    assert second.port != first.port


def test_a_generation_waits_for_a_look_at_its_checkpoint() -> None:
    world = running()
    world.let("crash 0", "hear 0", "go on 1", "hear 1", "hear 0")

    before = world.state.phase
    world.let("verify")

    assert before is Phase.RESERVING
    assert world.state.phase is Phase.STARTING


def test_a_torn_checkpoint_is_put_aside_and_the_one_before_it_is_looked_at() -> None:
    world = with_two_checkpoints()

    world.let("crash 0", "hear 0")
    world.let_peace(until=Phase.RESERVING)
    world.let("tear")
    world.let_peace(until=Phase.STARTING)

    assert world.last(PutAsideCheckpoint) == PutAsideCheckpoint(step=2, latest=1)
    assert world.last(StartGeneration).resume_step == 1
    assert world.state.restarts[-1].resume_step == 1


def test_where_every_checkpoint_is_torn_the_run_starts_from_scratch() -> None:
    world = with_two_checkpoints()

    world.let("crash 0", "hear 0")
    world.let_peace(until=Phase.RESERVING)
    world.let("tear", "tear")
    sentence = world.last(Say).sentence
    world.let_peace(until=Phase.STARTING)

    assert world.last(StartGeneration).resume_step is None
    assert sentence == (
        "the committed checkpoint of step 1 is torn (it is cut off): it is put aside as "
        "torn-step-1, and the run goes on from scratch"
    )


def with_two_checkpoints() -> FakeWorld:
    """In the middle of training, steps 1 and 2 committed."""
    world = running()
    world.let("go on 0", "go on 1")
    hear_everything(world)
    world.let("commit")
    return world


def test_without_a_checkpoint_a_restart_begins_from_scratch() -> None:
    world = FakeWorld(terms_of(hosts=1, slots=2))
    world.let_peace(until=Phase.STARTING)

    world.let("crash 0")
    hear_everything(world)
    world.let_peace(until=Phase.STARTING)

    assert world.last(StartGeneration).resume_step is None


def test_a_rank_that_exits_cleanly_before_it_finished_is_a_fault() -> None:
    world = running()

    world.let("vanish 1", "hear 1")

    assert world.state.phase is Phase.STOPPING
    assert world.state.restarts[-1].reason == "rank 1 exited before it had finished"


def test_a_recovery_is_timed_from_the_fault_to_the_first_common_step() -> None:
    world = running()

    world.let("crash 0", "hear 0")
    world.let_peace(until=Phase.RUNNING)

    restart = world.state.restarts[-1]
    assert restart.resume_step == 1
    assert restart.recovery_s == restart.stepping_at_s - restart.detected_at_s > 0


def test_the_budget_is_spent_by_restarts_without_a_new_checkpoint() -> None:
    world = FakeWorld(terms_of(hosts=1, slots=1, max_restarts=2))

    for _ in range(3):
        world.let_peace(until=Phase.STARTING)
        world.let("crash 0")
        hear_everything(world)

    assert world.closed.verdict is Verdict.FAILED
    assert "given up after 2 restarts" in world.closed.reason


def test_a_new_checkpoint_makes_the_budget_whole() -> None:
    world = running(max_restarts=1)
    world.let("crash 0", "hear 0")
    world.let_peace(until=Phase.STARTING)
    hear_everything(world)
    world.let("go on 0", "go on 1")
    hear_everything(world)
    world.let("commit")

    world.let("crash 0", "hear 0")

    assert world.state.phase is Phase.STOPPING
    assert world.state.restarts_spent == 1


def test_a_failed_run_keeps_the_last_log_lines_of_the_fault() -> None:
    world = running(max_restarts=0)
    exited = RankExited(
        at_s=1.0, generation=1, rank=0, exit_code=1, signal=None, tail=("out of memory",)
    )

    world.post(exited)

    assert world.state.verdict is Verdict.FAILED
    assert world.state.tail == ("out of memory",)


def test_a_refusal_is_final_and_keeps_the_engines_reason() -> None:
    world = FakeWorld(terms_of(hosts=1, slots=2))
    world.let_peace(until=Phase.STARTING)

    world.let("refuse 0")
    world.let_peace(until=Phase.ENDED)

    assert world.closed == CloseRun(verdict=Verdict.REFUSED, reason="tp is too large")


def test_a_refusal_counts_even_after_another_rank_has_died_of_it() -> None:
    world = FakeWorld(terms_of(hosts=2, slots=1))
    world.let_peace(until=Phase.STARTING)
    world.let("refuse 1", "crash 0")

    while world.agents[0].says:
        world.let("hear 0")
    world.let_peace(until=Phase.ENDED)

    assert world.closed.verdict is Verdict.REFUSED


def test_a_program_that_cannot_be_started_is_the_hosts_fault_and_not_tried_again() -> None:
    world = FakeWorld(terms_of(hosts=2, slots=1), cannot_start=frozenset({1}))

    world.let_peace(until=Phase.ENDED)

    assert world.closed.verdict is Verdict.HOST
    assert world.closed.reason == "cannot start python: no such file"
    assert world.generation == 1


def test_a_port_in_use_is_the_hosts_fault() -> None:
    world = FakeWorld(terms_of(rendezvous_port=29_500))

    world.let_peace(until=Phase.ENDED)

    assert world.closed == CloseRun(verdict=Verdict.HOST, reason="port 29500 is in use")


def test_agents_that_do_not_come_are_named() -> None:
    world = FakeWorld(terms_of(hosts=3))
    world.let("join 1")

    world.let("deadline passes")

    assert world.closed.verdict is Verdict.HOST
    assert world.closed.reason == "agent 0 on h0 and agent 2 on h2 did not connect within 60 s"


def test_a_lost_agent_is_started_again_and_the_run_goes_on() -> None:
    world = running()

    world.let("lose 1")

    assert world.last(StartAgent).agent_id == 1
    world.let_peace(until=Phase.RUNNING)
    assert world.last(StartGeneration).resume_step == 1


def test_an_agent_that_does_not_stay_costs_a_restart_each_time() -> None:
    world = running(max_restarts=2)
    world.let("lose 1")  # the fault itself
    world.let("join 1", "lose 1")  # while rank 0 is being stopped

    assert world.state.restarts_spent == 2
    world.let("join 1", "lose 1")
    assert world.state.verdict is Verdict.HOST


def test_one_fault_of_rank_and_agent_costs_one_restart() -> None:
    world = running()

    world.let("crash 1", "hear 1", "lose 1")

    assert world.state.restarts_spent == 1


def test_an_interrupt_asks_the_ranks_to_save_and_leave() -> None:
    world = running()

    world.let("interrupt")

    assert world.last(StopGeneration).how is StopHow.SAVE
    assert world.last(StopGeneration).grace_s == world.terms.save_grace_s


def test_an_interrupted_run_ends_when_what_it_saved_is_committed() -> None:
    world = running()

    world.let("interrupt", "go on 0", "go on 1")
    hear_everything(world)
    assert not world.is_over
    world.let("commit")

    assert world.closed.verdict is Verdict.INTERRUPTED
    assert world.state.committed[-1] == 2


def test_ranks_that_reach_the_last_step_on_request_have_finished() -> None:
    world = running(last_step=2)

    world.let("interrupt")
    world.let_peace(until=Phase.ENDED)

    assert world.closed.verdict is Verdict.FINISHED


def test_a_second_interrupt_kills_at_once() -> None:
    world = running()

    world.let("interrupt", "interrupt")

    assert world.state.phase is Phase.ENDING
    assert world.last(StopGeneration).how is StopHow.KILL


def test_an_interrupt_before_ranks_run_ends_at_once() -> None:
    world = FakeWorld(terms_of())

    world.let("interrupt")

    assert world.closed.verdict is Verdict.INTERRUPTED


@pytest.mark.parametrize("fault", ["crash 0", "lose 0"])
def test_ranks_do_not_wait_for_one_that_died_instead_of_leaving(fault: str) -> None:
    world = running()
    world.let("interrupt", fault)

    while world.agents[0].says:
        world.let("hear 0")

    assert world.last(StopGeneration).how is StopHow.KILL
    world.let_peace(until=Phase.ENDED)
    assert world.closed.verdict is Verdict.INTERRUPTED


def test_ranks_that_do_not_leave_in_time_are_killed() -> None:
    world = running()
    world.let("interrupt")

    world.let("deadline passes")

    assert world.last(StopGeneration).how is StopHow.KILL
    world.let_peace(until=Phase.ENDED)
    assert world.closed.reason == "stopped by request; the ranks did not leave"


def test_ranks_that_cannot_be_killed_end_the_run_with_their_numbers() -> None:
    world = running()
    world.let("crash 0", "hear 0")

    world.let("deadline passes")

    assert world.closed.verdict is Verdict.HOST
    assert world.closed.reason == "rank 1 did not end within 30 s of being killed"


def test_a_slow_commit_is_waited_for_past_the_stop_deadline() -> None:
    world = running()
    world.let("go on 0", "go on 1")
    hear_everything(world)
    world.let("crash 0", "hear 0", "go on 1", "hear 1")  # both are gone

    world.let("deadline passes")

    assert world.state.phase is Phase.STOPPING
    world.let("commit")
    assert world.state.phase is Phase.RESERVING


def test_a_hole_in_a_checkpoint_on_the_way_is_said_and_training_goes_on() -> None:
    world = running()
    world.let("go on 0", "go on 1")
    hear_everything(world)

    world.let("reject")

    assert world.state.phase is Phase.RUNNING
    assert world.last(Say).sentence == "checkpoint of step 2 is not whole: hole"


def test_a_hole_in_the_last_checkpoint_is_a_fault() -> None:
    world = running(last_step=2)
    world.let("go on 0", "go on 1")
    hear_everything(world)

    world.let("reject")

    assert world.state.phase in {Phase.STOPPING, Phase.RESERVING}
    world.let_peace(until=Phase.ENDED)
    assert world.closed.verdict is Verdict.FINISHED
    assert world.generation == 2


def test_older_checkpoints_go_when_newer_ones_are_committed() -> None:
    world = running(keep_checkpoints=1)
    world.let("go on 0", "go on 1")
    hear_everything(world)

    world.let("commit")

    assert world.last(DeleteCheckpoint).step == 1
    assert world.state.committed == (2,)


def test_what_an_older_generation_says_changes_nothing() -> None:
    world = running()
    before = world.state
    late = RankExited(at_s=9.0, generation=0, rank=0, exit_code=1, signal=None, tail=())

    assert handle(before, late) == (before, ())


def test_a_replaced_deadline_changes_nothing() -> None:
    world = FakeWorld(terms_of())
    old = world.deadline
    world.let_peace(until=Phase.RESERVING)
    before = world.state

    passed = DeadlinePassed(at_s=9.0, deadline=old.deadline, serial=old.serial)

    assert handle(before, passed) == (before, ())


def test_lost_storage_kills_the_ranks() -> None:
    world = running()

    world.let("storage fails")

    assert world.last(StopGeneration).how is StopHow.KILL
    world.let_peace(until=Phase.ENDED)
    assert world.closed == CloseRun(verdict=Verdict.STORAGE, reason="journal: no space")


def test_the_port_is_asked_of_the_host_of_rank_0() -> None:
    world = FakeWorld(terms_of(hosts=3))

    world.let_peace(until=Phase.RESERVING)

    assert world.last(AskPort) == AskPort(agent_id=0, generation=1, port=None)


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ([3], "3"),
        ([0, 2], "0 and 2"),
        ([0, 1, 2], "0, 1 and 2"),
        (list(range(12)), "0, 1, 2, 3, 4, 5, 6, 7 and 4 more"),
    ],
    ids=["one", "two", "three", "many"],
)
def test_numbers_are_spoken(numbers: list[int], sentence: str) -> None:
    assert spoken(numbers) == sentence
