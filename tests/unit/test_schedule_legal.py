"""What engines refuse of a schedule, and the way out that is named."""

import pytest

from orchestrator.schedules.engines import SWITCHES, PipelineEngine, engines_of
from orchestrator.schedules.legal import p2p_refusal, refusal, refusal_by
from orchestrator.specs.choices import OverlapAxis, ScheduleKind

INTERLEAVED = ScheduleKind.INTERLEAVED


@pytest.mark.parametrize(
    ("kind", "pp", "vpp", "microbatches", "group"),
    [
        (ScheduleKind.NO_PIPELINE, 1, 1, 7, 1),
        (ScheduleKind.ONE_F_ONE_B, 4, 1, 8, 1),
        (ScheduleKind.ONE_F_ONE_B, 8, 1, 3, 1),
        (INTERLEAVED, 4, 2, 8, 4),
        (INTERLEAVED, 4, 2, 9, 5),
        (INTERLEAVED, 4, 2, 11, 11),
    ],
    ids=["none", "1f1b", "1f1b m<p", "whole groups", "last group of pp", "one group"],
)
def test_what_engines_run_is_not_refused(kind, pp, vpp, microbatches, group):
    refused = refusal(
        kind, pp=pp, vpp=vpp, num_microbatches=microbatches, microbatch_group_size=group
    )

    assert refused is None


@pytest.mark.parametrize(
    ("pp", "vpp", "microbatches", "group", "reason", "nearest_microbatches", "nearest_group"),
    [
        (4, 3, 5, 4, "5 microbatches in groups of 4 leave a last group of 1", (4, 8), 5),
        (4, 2, 11, 8, "11 microbatches in groups of 8 leave a last group of 3", (8, 12), 7),
        (4, 2, 8, 2, "microbatch_group_size 2 is less than pp 4", (8,), 4),
        (4, 2, 9, 12, "12 is more than the 9 microbatches", (12,), 9),
        (6, 2, 3, 6, "3 is less than pp 6", (6,), None),
    ],
    ids=["small last group", "small last group of a large one", "g<p", "g>m", "m<p"],
)
def test_illegal_groups_are_refused_with_the_nearest_legal_numbers(
    pp, vpp, microbatches, group, reason, nearest_microbatches, nearest_group
):
    refused = refusal(
        INTERLEAVED, pp=pp, vpp=vpp, num_microbatches=microbatches, microbatch_group_size=group
    )

    assert refused is not None
    assert reason in refused.reason
    assert refused.nearest_num_microbatches == nearest_microbatches
    assert refused.nearest_group_size == nearest_group


def test_the_way_out_is_also_said_in_words():
    refused = refusal(INTERLEAVED, pp=4, vpp=3, num_microbatches=5, microbatch_group_size=4)

    assert refused is not None
    assert (
        refused.possible == "4 or 8 microbatches in groups of 4; or 5 microbatches in groups of 5"
    )


@pytest.mark.parametrize(
    ("kind", "pp", "vpp", "reason"),
    [
        (INTERLEAVED, 1, 4, "vpp 4 needs pp above 1"),
        (INTERLEAVED, 4, 1, "interleaved-1f1b needs vpp above 1"),
        (ScheduleKind.ONE_F_ONE_B, 4, 2, "one stage a rank, not vpp 2"),
        (ScheduleKind.NO_PIPELINE, 4, 1, "one stage, not pp 4 x vpp 1"),
    ],
)
def test_degrees_that_do_not_go_with_the_kind_are_refused(kind, pp, vpp, reason):
    refused = refusal(kind, pp=pp, vpp=vpp, num_microbatches=8, microbatch_group_size=4)

    assert refused is not None
    assert reason in refused.reason


@pytest.mark.parametrize("name", ["pp", "vpp", "num_microbatches", "microbatch_group_size"])
@pytest.mark.parametrize("value", [0, -3])
def test_sizes_below_one_are_refused(name, value):
    sizes = {"pp": 4, "vpp": 2, "num_microbatches": 8, "microbatch_group_size": 4, name: value}

    refused = refusal(INTERLEAVED, **sizes)

    assert refused is not None
    assert f"{value} is less than 1" in refused.reason


@pytest.mark.parametrize(
    ("kind", "pp", "overlap", "is_refused"),
    [
        (INTERLEAVED, 2, (), True),
        (INTERLEAVED, 2, (OverlapAxis.PP,), False),
        (INTERLEAVED, 4, (), False),
        (ScheduleKind.ONE_F_ONE_B, 4, (OverlapAxis.DP, OverlapAxis.PP), True),
        (ScheduleKind.ONE_F_ONE_B, 2, (OverlapAxis.DP,), False),
    ],
)
def test_two_interleaved_ranks_need_overlap_and_1f1b_forbids_it(kind, pp, overlap, is_refused):
    refused = p2p_refusal(kind, pp=pp, overlap=overlap)

    assert (refused is not None) == is_refused


@pytest.mark.parametrize(
    ("engine", "kind", "vpp", "microbatches", "reason", "possible", "nearest"),
    [
        ("torch", "1f1b", 1, 3, "as many microbatches as pp 4: 3 is less", "4 microbatches", (4,)),
        ("torch", "dualpipe-v", 2, 7, "its 8 stages: 7 is less", "8 microbatches", (8,)),
        ("torch", "interleaved-1f1b", 2, 9, "9 microbatches in 2 rounds", "8 or 10", (8, 10)),
        ("torch", "interleaved-zero-bubble", 2, 13, "in 3 rounds", "12 or 15", (12, 15)),
        ("torch", "zb-v", 3, 8, "there and back, not vpp 3", "vpp 2", ()),
        ("torch", "gpipe", 2, 8, "one stage a rank, not vpp 2", "looped-bfs", ()),
        ("torch", "looped-bfs", 1, 8, "needs vpp above 1", "vpp 2", ()),
        ("deepspeed", "zb-v", 2, 8, "deepspeed does not run zb-v", "run by torch", ()),
        ("megatron-core", "gpipe", 1, 8, "megatron-core does not run gpipe", "torch", ()),
        ("megatron-core", "combined-1f1b", 2, 9, "a last group of 1", "8 or 12", (8, 12)),
    ],
)
def test_each_engine_refuses_its_own(engine, kind, vpp, microbatches, reason, possible, nearest):
    refused = refusal_by(
        PipelineEngine(engine),
        ScheduleKind(kind),
        pp=4,
        vpp=vpp,
        num_microbatches=microbatches,
        microbatch_group_size=4,
    )

    assert refused is not None
    assert reason in refused.reason
    assert possible in refused.possible
    assert refused.nearest_num_microbatches == nearest


@pytest.mark.parametrize(
    ("engine", "kind", "pp", "vpp", "microbatches"),
    [
        ("deepspeed", "1f1b", 4, 1, 1),
        ("torch", "interleaved-1f1b", 4, 2, 3),
        ("torch", "interleaved-1f1b", 1, 2, 5),
        ("torch", "zb-v", 4, 2, 1),
        ("torch", "gpipe", 4, 1, 1),
        ("torch", "interleaved-zero-bubble", 4, 2, 10),
        ("megatron-core", "combined-1f1b", 4, 2, 8),
    ],
)
def test_each_engine_takes_its_own(engine, kind, pp, vpp, microbatches):
    refused = refusal_by(
        PipelineEngine(engine),
        ScheduleKind(kind),
        pp=pp,
        vpp=vpp,
        num_microbatches=microbatches,
        microbatch_group_size=4,
    )

    assert refused is None


def test_every_schedule_has_an_engine_and_says_how_it_is_switched_on():
    for kind in ScheduleKind:
        assert engines_of(kind)
        assert all(SWITCHES[kind][engine] for engine in engines_of(kind))
