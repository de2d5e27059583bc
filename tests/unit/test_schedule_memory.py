"""What ranks hold, slot by slot, and where it is released."""

import pytest

from orchestrator.errors import UsageError
from orchestrator.schedules import memory
from orchestrator.schedules.actions import parse_step
from orchestrator.schedules.memory import StageMemory
from orchestrator.schedules.schedule import Schedule, build, rewritten
from orchestrator.specs.choices import ScheduleKind


def one_rank(steps: str) -> Schedule:
    made = build(ScheduleKind.NO_PIPELINE, pp=1, vpp=1, num_microbatches=2, microbatch_group_size=1)
    return rewritten(made, [[parse_step(step) for step in steps.split()]])


def test_a_slot_holds_what_it_took_and_has_not_yet_released():
    schedule = one_rank("0F0 0F1 0B0 0B1")

    held = memory.held_bytes(schedule, 0, StageMemory(activation_bytes=(10,)))

    assert held.tolist() == [10, 20, 20, 10]


def test_an_input_gradient_releases_all_but_what_the_weights_need():
    schedule = one_rank("0F0 0I0 0F1 0W0 0I1 0W1")
    held_by = StageMemory(activation_bytes=(10,), until_weights_bytes=(4,))

    assert memory.held_bytes(schedule, 0, held_by).tolist() == [10, 10, 14, 14, 10, 4]
    assert [
        (str(one.step), one.released_bytes) for one in memory.releases(schedule, 0, held_by)
    ] == [
        ("0I0", 6),
        ("0W0", 4),
        ("0I1", 6),
        ("0W1", 4),
    ]


def test_an_overlapped_pair_holds_both_microbatches():
    schedule = one_rank("0F0 (0F1;0B0)OVERLAP_F_B 0B1")

    assert memory.peaks_in_flight(schedule) == (2,)
    [first, second] = memory.releases(schedule, 0, StageMemory.counted(1))
    assert (first.slot, second.slot) == (1, 2)


def test_stages_of_different_size_peak_on_different_ranks():
    schedule = build(
        ScheduleKind.ONE_F_ONE_B, pp=3, vpp=1, num_microbatches=4, microbatch_group_size=1
    )

    peaks = memory.peak_bytes(schedule, StageMemory(activation_bytes=(1, 5, 2)))

    assert peaks == (3, 10, 2)


def test_more_for_the_weights_than_there_is_is_refused():
    with pytest.raises(UsageError, match="11 of 10 bytes"):
        StageMemory(activation_bytes=(10,), until_weights_bytes=(11,))
