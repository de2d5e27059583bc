"""Orders of actions, against ones written out by hand, and what cannot be built."""

import pytest

from orchestrator.errors import UsageError
from orchestrator.schedules.schedule import Schedule, build
from orchestrator.specs.choices import ScheduleKind


def texts(schedule: Schedule, rank: int) -> str:
    return " ".join(map(str, schedule.orders[rank]))


@pytest.mark.parametrize(
    ("rank", "order"),
    [
        (0, "0F0 0F1 0F2 0B0 0F3 0B1 0B2 0B3"),
        (1, "1F0 1F1 1B0 1F2 1B1 1F3 1B2 1B3"),
        (2, "2F0 2B0 2F1 2B1 2F2 2B2 2F3 2B3"),
    ],
)
def test_1f1b_warms_up_by_one_forward_for_each_later_rank(rank, order):
    schedule = build(
        ScheduleKind.ONE_F_ONE_B, pp=3, vpp=1, num_microbatches=4, microbatch_group_size=1
    )

    assert texts(schedule, rank) == order


def test_1f1b_with_fewer_microbatches_than_ranks_runs_all_forwards_first():
    schedule = build(
        ScheduleKind.ONE_F_ONE_B, pp=4, vpp=1, num_microbatches=2, microbatch_group_size=1
    )

    assert texts(schedule, 0) == "0F0 0F1 0B0 0B1"


def test_without_a_pipeline_each_forward_is_followed_by_its_backward():
    schedule = build(
        ScheduleKind.NO_PIPELINE, pp=1, vpp=1, num_microbatches=3, microbatch_group_size=1
    )

    assert texts(schedule, 0) == "0F0 0B0 0F1 0B1 0F2 0B2"


@pytest.mark.parametrize(
    ("rank", "order"),
    [
        # Megatron's own example of a table, "PP2 N3M5 with VP2".
        (
            0,
            "0F0 0F1 0F2 2F0 2F1 2F2 2B0 0F3 2B1 0F4 2B2 2F3 0B0 2F4 0B1 0B2 2B3 2B4 0B3 0B4",
        ),
        (
            1,
            "1F0 1F1 1F2 3F0 3B0 3F1 3B1 3F2 3B2 1F3 1B0 1F4 1B1 3F3 1B2 3F4 3B3 3B4 1B3 1B4",
        ),
    ],
)
def test_interleaving_takes_a_group_through_each_chunk_in_turn(rank, order):
    schedule = build(
        ScheduleKind.INTERLEAVED, pp=2, vpp=2, num_microbatches=5, microbatch_group_size=3
    )

    assert texts(schedule, rank) == order


def test_stages_go_around_the_ranks():
    schedule = build(
        ScheduleKind.INTERLEAVED, pp=4, vpp=3, num_microbatches=4, microbatch_group_size=4
    )

    assert [schedule.rank_of(stage) for stage in range(6)] == [0, 1, 2, 3, 0, 1]
    assert list(schedule.stages_of(1)) == [1, 5, 9]
    assert schedule.num_actions == 2 * 12 * 4


def test_a_schedule_that_engines_refuse_is_not_built():
    with pytest.raises(UsageError, match="less than pp 4"):
        build(ScheduleKind.INTERLEAVED, pp=4, vpp=2, num_microbatches=5, microbatch_group_size=4)


def test_a_schedule_of_absurd_size_is_not_built():
    with pytest.raises(UsageError, match=r"2,000,000,000 actions is more than 10,000,000"):
        build(
            ScheduleKind.ONE_F_ONE_B,
            pp=1000,
            vpp=1,
            num_microbatches=10**6,
            microbatch_group_size=1,
        )
