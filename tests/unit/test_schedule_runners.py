"""Which engines run a schedule with the numbers asked."""

import pytest

from orchestrator.schedules.engines import PipelineEngine
from orchestrator.schedules.runners import runners_of, usual_group_size
from orchestrator.specs.choices import ScheduleKind

MEGATRON, DEEPSPEED, TORCH = PipelineEngine


@pytest.mark.parametrize(
    ("kind", "pp", "vpp", "microbatches", "group", "runs"),
    [
        ("1f1b", 4, 1, 8, 4, {MEGATRON, DEEPSPEED, TORCH}),
        ("1f1b", 4, 1, 3, 4, {MEGATRON, DEEPSPEED}),
        ("interleaved-1f1b", 4, 2, 8, 4, {MEGATRON, TORCH}),
        ("interleaved-1f1b", 4, 2, 8, 8, {MEGATRON}),
        ("interleaved-1f1b", 4, 2, 3, 3, {TORCH}),
        ("interleaved-1f1b", 1, 2, 3, 1, {TORCH}),
        ("interleaved-1f1b", 4, 2, 9, 4, set()),
        ("combined-1f1b", 4, 2, 8, 8, {MEGATRON}),
    ],
)
def test_engines_that_refuse_the_numbers_do_not_run_them(kind, pp, vpp, microbatches, group, runs):
    runners = runners_of(
        ScheduleKind(kind),
        pp=pp,
        vpp=vpp,
        num_microbatches=microbatches,
        microbatch_group_size=group,
    )

    assert set(runners.switches) == runs
    assert not runs & set(runners.refusals)


@pytest.mark.parametrize(
    ("kind", "microbatches", "group"),
    [
        ("interleaved-1f1b", 8, 4),
        ("interleaved-1f1b", 3, 3),
        ("interleaved-1f1b", 9, 4),
        ("interleaved-zero-bubble", 10, 5),
        ("1f1b", 3, 4),
    ],
)
def test_the_usual_group_is_pp_unless_torch_alone_runs(kind, microbatches, group):
    found = usual_group_size(ScheduleKind(kind), pp=4, vpp=2, num_microbatches=microbatches)

    assert found == group


def test_no_engine_is_said_to_switch_on_a_pipeline_for_one_rank():
    runners = runners_of(
        ScheduleKind.ONE_F_ONE_B, pp=1, vpp=1, num_microbatches=8, microbatch_group_size=1
    )

    assert runners.switches[MEGATRON] == "pipeline_model_parallel_size 1"
