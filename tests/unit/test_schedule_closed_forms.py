"""Formulas on numbers that people quote; laws against the simulation are in tests/property."""

import pytest

from orchestrator.schedules import closed_forms
from orchestrator.specs.choices import ScheduleKind

ONE_F_ONE_B = ScheduleKind.ONE_F_ONE_B
INTERLEAVED = ScheduleKind.INTERLEAVED


def test_bubble_fraction_is_of_the_makespan_and_overhead_of_the_ideal():
    sizes = {"pp": 8, "vpp": 1, "num_microbatches": 21}

    assert closed_forms.bubble_fraction(ONE_F_ONE_B, **sizes) == 7 / 28
    assert closed_forms.bubble_overhead(ONE_F_ONE_B, **sizes) == 7 / 21


def test_interleaving_divides_the_bubble_overhead_by_the_chunks():
    plain = closed_forms.bubble_overhead(ONE_F_ONE_B, pp=16, vpp=1, num_microbatches=16)
    chunks = closed_forms.bubble_overhead(INTERLEAVED, pp=16, vpp=8, num_microbatches=16)

    assert chunks == plain / 8


def test_without_a_pipeline_there_is_no_bubble_and_one_activation():
    kind = ScheduleKind.NO_PIPELINE

    assert closed_forms.bubble_fraction(kind, pp=1, vpp=1, num_microbatches=9) == 0
    assert closed_forms.bubble_ns(kind, pp=1, chunk_ns=7) == 0
    assert closed_forms.makespan_ns(kind, pp=1, vpp=1, num_microbatches=9, chunk_ns=7) == 63
    assert closed_forms.latency_hops(kind, pp=1, vpp=1, num_microbatches=9) == 0
    assert (
        closed_forms.peak_in_flight(
            kind, pp=1, vpp=1, num_microbatches=9, microbatch_group_size=1, rank=0
        )
        == 1
    )


@pytest.mark.parametrize(
    ("kind", "vpp", "microbatches", "group", "rank", "peak"),
    [
        (ONE_F_ONE_B, 1, 8, 4, 0, 4),
        (ONE_F_ONE_B, 1, 8, 4, 3, 1),
        (ONE_F_ONE_B, 1, 2, 4, 0, 2),
        (INTERLEAVED, 2, 8, 4, 0, 11),
        (INTERLEAVED, 2, 8, 4, 3, 5),
        (INTERLEAVED, 2, 8, 8, 0, 15),
        (INTERLEAVED, 2, 4, 4, 0, 8),
    ],
    ids=["first", "last", "m<p", "int first", "int last", "int breadth-first", "int capped"],
)
def test_peak_in_flight_on_four_ranks(kind, vpp, microbatches, group, rank, peak):
    found = closed_forms.peak_in_flight(
        kind,
        pp=4,
        vpp=vpp,
        num_microbatches=microbatches,
        microbatch_group_size=group,
        rank=rank,
    )

    assert found == peak
