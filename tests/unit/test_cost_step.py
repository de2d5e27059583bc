"""The pipeline's formula, and the parts of a step."""

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.catalog.resolve import resolve
from orchestrator.cost.bills import bubble_factor
from orchestrator.cost.compose import PARTS, Bills, PriceTable, composed
from orchestrator.cost.quantity import NUM_QUANTITIES, Quantity
from orchestrator.cost.step import cost_of, costs_of, stage_seconds
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


def _pipeline(ranks: list[float], *, vpp: int, microbatches: int, kind: ScheduleKind) -> float:
    """Return the modelled step of ranks whose microbatches cost so much, and nothing else."""
    work = np.zeros((1, len(ranks), NUM_QUANTITIES))
    work[0, :, Quantity.GEMM_FLOP] = ranks
    none, one = np.zeros(1), np.ones(1)
    unit = np.zeros((1, NUM_QUANTITIES))
    unit[0, Quantity.GEMM_FLOP] = 1
    bills = Bills(
        work=work,
        again=np.zeros_like(work),
        replica=np.zeros_like(work),
        ranks=np.ones((1, len(ranks))),
        microbatches=np.array([float(microbatches)]),
        vpp=np.array([float(vpp)]),
        bubble=np.array([bubble_factor(kind)]),
        world=one,
        overlaps=one,
    )
    prices = PriceTable(
        unit=unit,
        launch_s=none,
        cp_exposed=none,
        dp_exposed=none,
        gather_exposed=none,
        step_s=none,
        straggler=none,
        slowdown=one,
    )
    return float(composed(bills, prices).sum())


@pytest.mark.parametrize(
    ("vpp", "kind"),
    [
        (1, "1f1b"),
        (1, "gpipe"),
        (3, "interleaved-1f1b"),
        (3, "combined-1f1b"),
        (3, "looped-bfs"),
        (1, "interleaved-zero-bubble"),
        (2, "zb-v"),
        (2, "dualpipe-v"),
    ],
)
def test_equal_stages_take_the_closed_form_of_every_schedule(vpp: int, kind: str):
    pp, microbatches, chunk_ns = 4, 8, 300

    step = _pipeline(
        [vpp * chunk_ns] * pp, vpp=vpp, microbatches=microbatches, kind=ScheduleKind(kind)
    )

    closed = makespan_ns(
        ScheduleKind(kind), pp=pp, vpp=vpp, num_microbatches=microbatches, chunk_ns=chunk_ns
    )
    assert step == pytest.approx(closed)


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
    modelled = _pipeline(ranks, vpp=1, microbatches=9, kind=ScheduleKind.ONE_F_ONE_B)
    assert modelled == pytest.approx(timeline.makespan_ns)


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
    # The gradients that a layer adds to those before are no part of a forward pass.
    assert again.recompute_s == pytest.approx(forward_s, rel=0.05)
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


def test_many_layouts_cost_what_each_costs_alone():
    workload = _workload()
    layouts = [
        BASE,
        replace(BASE, vpp=1, schedule=ScheduleKind.ONE_F_ONE_B),
        Layout(tp=8, pp=1, dp=8),
        replace(BASE, micro_batch_size=2, zero_stage=3),
    ]

    together = costs_of(workload, layouts)

    for layout, cost in zip(layouts, together, strict=True):
        alone = cost_of(workload, layout)
        for name in PARTS:
            part = f"{name}_s"
            assert getattr(cost, part) == pytest.approx(getattr(alone, part), abs=1e-12)


def test_stages_take_together_what_their_ranks_take():
    workload = _workload()

    stages = stage_seconds(workload, BASE)

    assert len(stages) == 20
    assert all(0 < one.forward_s < one.backward_s for one in stages)
    assert stages[-1].forward_s > 1.2 * stages[0].forward_s  # the logits
    assert all(one.weight_grad_s < one.backward_s for one in stages)


def test_a_release_of_next_year_is_not_slower():
    workload = _workload()
    older, newer = (
        replace(workload, software=replace(workload.software, release=year))
        for year in (2024.5, 2025.5)
    )

    assert cost_of(newer, BASE).total_s <= cost_of(older, BASE).total_s
