"""Event simulation on cases small enough to follow by hand."""

import pytest

from orchestrator.schedules.actions import parse
from orchestrator.schedules.schedule import Schedule, arranged, build, rewritten
from orchestrator.schedules.simulate import Deadlock, Timeline, simulate
from orchestrator.schedules.times import StageTimes
from orchestrator.specs.choices import ScheduleKind


def one_f_one_b(pp: int, num_microbatches: int) -> Schedule:
    return build(
        ScheduleKind.ONE_F_ONE_B,
        pp=pp,
        vpp=1,
        num_microbatches=num_microbatches,
        microbatch_group_size=1,
    )


def timeline(schedule: Schedule, times: StageTimes) -> Timeline:
    answer = simulate(schedule, times=times)
    assert isinstance(answer, Timeline), str(answer)
    return answer


def rows(times) -> list[list[int]]:
    return [row.tolist() for row in times]


def test_actions_wait_for_their_input_and_for_their_rank():
    times = StageTimes(forward_ns=(1, 2), backward_ns=(3, 5))

    found = timeline(one_f_one_b(pp=2, num_microbatches=2), times)

    # rank 0: F0 0-1, F1 1-2, B0 after 1B0 at 8, B1 after 1B1 at 15
    # rank 1: F0 1-3, B0 3-8, F1 8-10, B1 10-15
    assert rows(found.starts_ns) == [[0, 1, 8, 15], [1, 3, 8, 10]]
    assert rows(found.ends_ns) == [[1, 2, 11, 18], [3, 8, 10, 15]]
    assert found.makespan_ns == 18
    assert found.busy_ns == (8, 14)


def test_latency_delays_what_comes_from_another_rank():
    times = StageTimes.uniform(num_stages=2, forward_ns=1, backward_ns=2, latency_ns=10)

    found = timeline(one_f_one_b(pp=2, num_microbatches=1), times)

    assert rows(found.starts_ns) == [[0, 24], [11, 12]]
    assert found.makespan_ns == 26


def test_without_a_pipeline_latency_and_idling_do_not_exist():
    schedule = build(
        ScheduleKind.NO_PIPELINE, pp=1, vpp=1, num_microbatches=5, microbatch_group_size=1
    )

    found = timeline(
        schedule, StageTimes.uniform(num_stages=1, forward_ns=3, backward_ns=4, latency_ns=99)
    )

    assert found.makespan_ns == 35
    assert found.busy_ns == (35,)


def test_a_deadlock_ends_with_its_circle_named():
    smallest = arranged(
        ScheduleKind.INTERLEAVED, pp=4, vpp=3, num_microbatches=5, microbatch_group_size=4
    )

    answer = simulate(
        smallest, times=StageTimes.uniform(num_stages=12, forward_ns=1, backward_ns=2)
    )

    assert isinstance(answer, Deadlock)
    assert str(answer) == "rank 0 waits at 8F4 for 7F4, rank 3 waits at 7B0 for 8B0"


def test_a_rank_that_only_waits_behind_a_circle_is_not_part_of_it():
    orders = (
        "0F0 0F1 0B0 0B1",
        "1F0 1B0 1F1 1B1",
        "2F0 2F1 2B0 2B1",
    )
    twisted = rewritten(
        one_f_one_b(pp=3, num_microbatches=2), [map(parse, order.split()) for order in orders]
    )

    answer = simulate(twisted, times=StageTimes.uniform(num_stages=3, forward_ns=1, backward_ns=1))

    assert str(answer) == "rank 1 waits at 1B0 for 2B0, rank 2 waits at 2F1 for 1F1"


@pytest.mark.parametrize("heavy", [0, 2])
def test_a_slow_last_stage_costs_every_microbatch(heavy):
    last = StageTimes(forward_ns=(10, 10, 10 + heavy), backward_ns=(20, 20, 20))

    found = timeline(one_f_one_b(pp=3, num_microbatches=7), last)

    assert found.makespan_ns == (7 + 2) * 30 + 7 * heavy
