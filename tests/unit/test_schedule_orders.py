"""Orders of actions, against ones written out by hand, and what cannot be built."""

import pytest

from orchestrator.errors import UsageError
from orchestrator.schedules.schedule import Schedule, build
from orchestrator.specs.choices import ScheduleKind


def texts(schedule: Schedule, rank: int) -> str:
    """Return a rank's steps, an overlapped pair as `3F1+3B0`."""
    return " ".join("+".join(map(str, step.actions)) for step in schedule.order(rank))


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
    assert schedule.stages_of(1) == (1, 5, 9)
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


@pytest.mark.parametrize(
    ("kind", "vpp", "microbatches", "first", "last"),
    [
        (ScheduleKind.GPIPE, 1, 2, "0F0 0F1 0B0 0B1", "1F0 1F1 1B0 1B1"),
        (
            ScheduleKind.LOOPED_BFS,
            2,
            2,
            "0F0 0F1 2F0 2F1 2B1 2B0 0B1 0B0",
            "1F0 1F1 3F0 3F1 3B1 3B0 1B1 1B0",
        ),
        (
            ScheduleKind.ZERO_BUBBLE,
            2,
            2,
            "0F0 0F1 2F0 2F1 2I0 2W0 2I1 2W1 0I0 0W0 0I1 0W1",
            "1F0 1F1 3F0 3I0 3F1 3I1 3W0 1I0 3W1 1I1 1W0 1W1",
        ),
        (
            ScheduleKind.ZB_V,
            2,
            3,
            "0F0 0F1 0F2 3F0 3I0 3W0 3F1 3I1 3W1 0I0 0W0 3F2 3I2 3W2 0I1 0W1 0I2 0W2",
            "1F0 2F0 1F1 2F1 2I0 2W0 1F2 1I0 1W0 2F2 2I1 2W1 1I1 2I2 1I2 1W1 2W2 1W2",
        ),
        (
            ScheduleKind.COMBINED,
            2,
            2,
            "0F0 0F1 2F0 2F1 2B0 2B1 0B0 0B1",
            "1F0 1F1 3F0 3F1+3B0 3B1 1B0 1B1",
        ),
        (
            ScheduleKind.DUAL_PIPE_V,
            2,
            4,
            "0F0 0F1 0F2 3F0 3I0 3W0 3F1 0F3+3B1 3F2+0B0 3B2 3F3+0B1 3B3 0I2 0W2 0I3 0W3",
            "1F0 2F0 1F1 2F1 1F2 2B0 2F2+1B0 1F3+2B1 2F3+1B1 2B2 1B2 2I3 1I3 2W3 1W3",
        ),
    ],
)
def test_two_ranks_of_every_other_schedule(kind, vpp, microbatches, first, last):
    schedule = build(kind, pp=2, vpp=vpp, num_microbatches=microbatches, microbatch_group_size=2)

    assert (texts(schedule, 0), texts(schedule, 1)) == (first, last)


def test_a_v_brings_the_last_stage_back_to_the_first_rank():
    schedule = build(ScheduleKind.ZB_V, pp=4, vpp=2, num_microbatches=8, microbatch_group_size=1)

    assert [schedule.rank_of(stage) for stage in range(8)] == [0, 1, 2, 3, 3, 2, 1, 0]
    assert [schedule.stages_of(rank) for rank in range(4)] == [(0, 7), (1, 6), (2, 5), (3, 4)]
