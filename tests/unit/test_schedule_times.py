"""Stage times: what is refused, and how long each kind of step takes."""

import pytest

from orchestrator.errors import UsageError
from orchestrator.schedules.actions import parse_step
from orchestrator.schedules.schedule import arranged, rewritten
from orchestrator.schedules.simulate import Timeline, simulate
from orchestrator.schedules.times import MAX_NS, StageTimes
from orchestrator.specs.choices import ScheduleKind

ONE_STAGE = arranged(
    ScheduleKind.NO_PIPELINE, pp=1, vpp=1, num_microbatches=2, microbatch_group_size=1
)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"forward_ns": (-1,), "backward_ns": (1,)}, "forward_ns: -1 is not a time"),
        ({"forward_ns": (1,), "backward_ns": (MAX_NS + 1,)}, "is not a time"),
        ({"forward_ns": (1, 1), "backward_ns": (1,)}, "has 1 stages, forward_ns 2"),
        (
            {"forward_ns": (1,), "backward_ns": (3,), "weight_grad_ns": (4,)},
            "4 is more than the whole backward, 3",
        ),
        ({"forward_ns": (1,), "backward_ns": (1,), "latency_ns": -2}, "latency_ns: -2"),
    ],
    ids=["negative", "too long", "stages missing", "weights heavier", "negative latency"],
)
def test_what_is_no_time_is_refused_with_its_name(words, match):
    with pytest.raises(UsageError, match=match):
        StageTimes(**words)


@pytest.mark.parametrize(
    ("steps", "saved_ns", "ends"),
    [
        ("0F0 0B0 0F1 0B1", 0, [10, 40, 50, 80]),
        ("0F0 0I0 0W0 0F1 0I1 0W1", 0, [10, 32, 40, 50, 72, 80]),
        ("0F0 (0F1;0B0)OVERLAP_F_B 0B1", 0, [10, 50, 80]),
        ("0F0 (0F1;0B0)OVERLAP_F_B 0B1", 4, [10, 46, 76]),
        ("0F0 (0F1;0B0)OVERLAP_F_B 0B1", 99, [10, 40, 70]),
    ],
    ids=["whole", "split", "pair", "pair that saves", "pair as long as its longer part"],
)
def test_steps_take_what_their_parts_take(steps, saved_ns, ends):
    schedule = rewritten(ONE_STAGE, [[parse_step(step) for step in steps.split()]])
    times = StageTimes(
        forward_ns=(10,), backward_ns=(30,), weight_grad_ns=(8,), overlap_saves_ns=saved_ns
    )

    timeline = simulate(schedule, times=times)

    assert isinstance(timeline, Timeline)
    assert timeline.ends_ns[0].tolist() == ends


def test_times_of_another_pipeline_are_refused():
    with pytest.raises(UsageError, match="times of 2 stages for a schedule of 1"):
        simulate(ONE_STAGE, times=StageTimes.uniform(num_stages=2, forward_ns=1, backward_ns=1))


def test_waiting_for_what_is_never_done_is_an_error_not_a_hang():
    halves = [[parse_step("0F0")], [parse_step("1F0"), parse_step("1F1")]]
    two = arranged(
        ScheduleKind.ONE_F_ONE_B, pp=2, vpp=1, num_microbatches=2, microbatch_group_size=1
    )
    schedule = rewritten(two, halves)

    with pytest.raises(UsageError, match="0F1 is waited for and never done"):
        simulate(schedule, times=StageTimes.uniform(num_stages=2, forward_ns=1, backward_ns=1))


def test_times_that_64_bits_cannot_add_up_are_refused():
    schedule = arranged(
        ScheduleKind.NO_PIPELINE, pp=1, vpp=1, num_microbatches=2, microbatch_group_size=1
    )
    times = StageTimes(forward_ns=(2**62,), backward_ns=(2**62,), longest_ns=2**62)

    with pytest.raises(UsageError, match="4 actions add up to more than 285 years"):
        simulate(schedule, times=times)
