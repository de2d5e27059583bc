"""The pipeline's formula, and the parts of a step."""

from dataclasses import replace

import pytest

from orchestrator.catalog.resolve import resolve
from orchestrator.cost.step import cost_of, pipeline_bubble_s
from orchestrator.cost.workload import Workload, workload_of
from orchestrator.records.layout import Layout, Recompute
from orchestrator.schedules.closed_forms import makespan_ns
from orchestrator.schedules.schedule import build
from orchestrator.schedules.simulate import StageTimes, Timeline, simulate
from orchestrator.specs.choices import OverlapAxis, RecomputeGranularity, ScheduleKind
from orchestrator.specs.cluster import ClusterSpec
from orchestrator.specs.run import RunSpec
from orchestrator.specs.training import TrainingSpec

BASE = Layout(
    tp=4,
    pp=4,
    dp=4,
    vpp=5,
    microbatch_group_size=4,
    sequence_parallel=True,
    overlap=(OverlapAxis.DP, OverlapAxis.PP, OverlapAxis.TP),
    schedule=ScheduleKind.INTERLEAVED,
)


def _workload(*, batch: int = 128, model: str = "llama-3.1-70b", gpus: int = 64) -> Workload:
    training = TrainingSpec(sequence_length=8192, global_batch_size=batch, steps=1)
    cluster = ClusterSpec(card="dgx-h100", gpus=gpus)
    spec = RunSpec(schema=1, name="x", model=model, cluster=cluster, training=training)
    return workload_of(resolve(spec, file="x"))


@pytest.mark.parametrize(("vpp", "kind"), [(1, "1f1b"), (3, "interleaved-1f1b")])
def test_equal_stages_take_the_closed_form(vpp: int, kind: str):
    pp, microbatches, chunk_ns = 4, 8, 300
    rank = vpp * chunk_ns

    step = microbatches * rank + pipeline_bubble_s([rank] * pp, vpp=vpp)

    assert step == makespan_ns(
        ScheduleKind(kind), pp=pp, vpp=vpp, num_microbatches=microbatches, chunk_ns=chunk_ns
    )


@pytest.mark.parametrize("heavy", [0, 40, 700])
def test_a_heavy_last_stage_takes_what_simulation_says(heavy: int):
    ranks = [300, 300, 300, 300 + 3 * heavy]
    schedule = build(
        ScheduleKind.ONE_F_ONE_B, pp=4, vpp=1, num_microbatches=9, microbatch_group_size=4
    )
    times = StageTimes(
        forward_ns=tuple(rank // 3 for rank in ranks),
        backward_ns=tuple(2 * rank // 3 for rank in ranks),
    )

    timeline = simulate(schedule, times=times)

    assert isinstance(timeline, Timeline)
    assert timeline.makespan_ns == 9 * max(ranks) + pipeline_bubble_s(ranks, vpp=1)


def test_more_microbatches_leave_the_bubble_as_it_is():
    few, many = (cost_of(_workload(batch=batch), BASE) for batch in (128, 512))

    assert many.bubble_s == pytest.approx(few.bubble_s)
    assert many.matmul_s == pytest.approx(4 * few.matmul_s)


def test_more_chunks_divide_the_bubble():
    workload = _workload()

    five, one = (
        cost_of(workload, layout)
        for layout in (BASE, replace(BASE, vpp=1, schedule=ScheduleKind.ONE_F_ONE_B))
    )

    assert one.bubble_s > 4 * five.bubble_s


def test_a_stage_layout_that_counts_the_output_layer_evens_the_stages_out():
    workload = _workload(model="llama-3.1-405b", gpus=1024)
    # 126 layers on 4 ranks: 31 or 32 each, the last one fewer.
    layout = replace(BASE, tp=8, dp=32, vpp=1, schedule=ScheduleKind.ONE_F_ONE_B)
    heavy, light = (
        replace(layout, stage_layout=text)
        for text in ("Et*31|t*31|t*32|t*32L", "Et*31|(t*32|)*2t*31L")
    )

    heavier, lighter = (cost_of(workload, one) for one in (heavy, light))

    assert lighter.imbalance_s < heavier.imbalance_s
    assert lighter.total_s < heavier.total_s


def test_full_recomputation_costs_about_a_forward_pass():
    workload = _workload()
    full = Recompute(granularity=RecomputeGranularity.FULL)

    bare, again = (cost_of(workload, replace(BASE, recompute=r)) for r in (Recompute(), full))

    forward_s = (bare.matmul_s + bare.attention_s + bare.elementwise_s) / 3
    assert bare.recompute_s == 0
    assert again.recompute_s == pytest.approx(forward_s)
    assert again.tp_comm_s == pytest.approx(1.5 * bare.tp_comm_s)


def test_without_a_pipeline_nothing_waits_for_a_stage():
    cost = cost_of(_workload(model="llama-3.1-8b"), Layout(tp=8, pp=1, dp=8))

    assert cost.bubble_s == 0
    assert cost.imbalance_s == pytest.approx(0)
    assert cost.pp_comm_s == 0


def test_tiny_layers_are_bound_by_launches():
    small = _workload(model="llama-3.1-8b", batch=64)
    short = replace(small, sequence=16)

    cost = cost_of(short, Layout(tp=1, pp=1, dp=64))

    assert cost.host_s > cost.matmul_s
