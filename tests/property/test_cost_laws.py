"""Laws of the cost model, over layouts of every kind."""

import math
from dataclasses import fields, replace
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.catalog.resolve import resolve
from orchestrator.cost.memory import memory_of, states_floor_bytes
from orchestrator.cost.quote import price
from orchestrator.cost.workload import workload_of
from orchestrator.planner.space import candidates
from orchestrator.records.engine import MEGATRON_FAMILY
from orchestrator.records.layout import Layout, Recompute
from orchestrator.records.run import ResolvedRun
from orchestrator.rules.table import first_violation
from orchestrator.specs.choices import Precision, RecomputeGranularity
from orchestrator.specs.cluster import ClusterSpec
from orchestrator.specs.run import RunSpec
from orchestrator.specs.training import TrainingSpec

RUNS = (
    ("llama-3.1-8b", "dgx-h100", 64, 8192, Precision.BF16),
    ("gpt3-175b", "dgx-a100-80", 512, 2048, Precision.BF16),
    ("llama-3.1-70b", "dgx-h100", 128, 32_768, Precision.FP8),
    ("mixtral-8x7b", "dgx-h100", 64, 4096, Precision.BF16),
    ("deepseek-v3", "dgx-h100", 512, 4096, Precision.FP8),
    ("tiny-gpt", "local-cpu", 4, 256, Precision.FP32),
)

SMALL = 1e-9
"""What rounding may do to a sum."""


@cache
def _case(index: int) -> tuple[ResolvedRun, tuple[Layout, ...]]:
    model, cluster, gpus, sequence, precision = RUNS[index]
    training = TrainingSpec(
        sequence_length=sequence, global_batch_size=1024, steps=1, precision=precision
    )
    spec = RunSpec(
        schema=1,
        name="x",
        model=model,
        cluster=ClusterSpec(card=cluster, gpus=gpus),
        training=training,
    )
    run = resolve(spec, file="x")
    legal = [
        layout
        for layout in candidates(run, capabilities=MEGATRON_FAMILY)
        if first_violation(run, layout, capabilities=MEGATRON_FAMILY) is None
    ]
    return run, tuple(legal)


class Case(tuple[ResolvedRun, Layout]):
    """A run and a layout whose text is short: two lines tell a failing case, not two pages."""

    __slots__ = ()

    def __repr__(self) -> str:
        run, layout = self
        told = (
            f"{field.name}={getattr(layout, field.name)!r}"
            for field in fields(layout)
            if getattr(layout, field.name) != field.default
        )
        return f"{run.spec.model} on {layout.world_size} ranks: {', '.join(told)}"


@st.composite
def _priced(draw: st.DrawFn) -> Case:
    run, layouts = _case(draw(st.integers(0, len(RUNS) - 1)))
    return Case((run, draw(st.sampled_from(layouts))))


@settings(deadline=None, max_examples=200)
@given(_priced())
def test_no_step_beats_its_roofline(case: tuple[ResolvedRun, Layout]):
    run, layout = case

    plan = price(run, layout)

    peak = workload_of(run).chip.peak_flop_per_s * layout.world_size
    assert plan.step_time_s > plan.model_flop_per_step / peak


@settings(deadline=None, max_examples=200)
@given(_priced())
def test_parts_are_never_negative_and_sum_to_their_totals(case: tuple[ResolvedRun, Layout]):
    run, layout = case

    plan = price(run, layout)

    for parts, total in (
        (plan.cost, plan.cost.total_s),
        (plan.memory, plan.memory.total_bytes),
    ):
        values = [getattr(parts, field.name) for field in fields(parts)]
        # Rounding may leave the imbalance of equal ranks a hair below nothing.
        assert min(values) >= -1e-9 * total
        assert math.isclose(math.fsum(values), total)


@settings(deadline=None, max_examples=200)
@given(_priced())
def test_memory_never_falls_as_the_micro_batch_grows(case: tuple[ResolvedRun, Layout]):
    run, layout = case
    workload = workload_of(run)
    # The same number of microbatches in flight: the batch grows along.
    larger = replace(workload, global_batch_size=2 * workload.global_batch_size)

    one = memory_of(workload, layout)
    two = memory_of(larger, replace(layout, micro_batch_size=2 * layout.micro_batch_size))

    assert two.total_bytes >= one.total_bytes


@settings(deadline=None, max_examples=200)
@given(_priced())
def test_recomputation_frees_memory_and_costs_time(case: tuple[ResolvedRun, Layout]):
    run, layout = case
    bare = replace(layout, recompute=Recompute())
    full = replace(layout, recompute=Recompute(granularity=RecomputeGranularity.FULL))

    kept, again = price(run, bare), price(run, full)

    assert again.memory.total_bytes <= kept.memory.total_bytes
    assert again.cost.recompute_s > kept.cost.recompute_s == 0
    # Longer backwards hide more of the replicas' exchange, and may even out the ranks: all of the
    # recomputation may disappear behind these two, and nothing else shrinks.
    assert again.cost.total_s >= kept.cost.total_s * (1 - SMALL)
    shrunk = {
        field.name
        for field in fields(kept.cost)
        if getattr(again.cost, field.name) < getattr(kept.cost, field.name) * (1 - SMALL)
    }
    assert shrunk <= {"dp_comm_s", "imbalance_s"}


@settings(deadline=None, max_examples=100)
@given(_priced())
def test_states_never_grow_with_the_zero_stage(case: tuple[ResolvedRun, Layout]):
    run, layout = case
    workload = workload_of(run)

    states = [memory_of(workload, replace(layout, zero_stage=stage)) for stage in (0, 1, 2, 3)]

    totals = [one.parameters_bytes + one.gradients_bytes + one.optimizer_bytes for one in states]
    assert totals == sorted(totals, reverse=True)


@settings(deadline=None, max_examples=100)
@given(_priced())
def test_memory_never_grows_with_tensor_parallelism(case: tuple[ResolvedRun, Layout]):
    run, layout = case
    workload = workload_of(run)
    # The same replicas on twice the ranks: only what a rank holds of the model changes. The
    # vocabulary's padding grows with tp: it is left out of the law.
    vocab = max(1, workload.shape.vocab // 4096) * 4096
    bare = replace(workload, shape=replace(workload.shape, vocab=vocab))
    one = replace(layout, ep=1, etp=1, sequence_parallel=True)

    narrow, wide = (memory_of(bare, replace(one, tp=tp)) for tp in (2, 4))

    assert wide.total_bytes <= narrow.total_bytes * (1 + 1e-9)


@settings(deadline=None, max_examples=100)
@given(_priced(), st.sampled_from(["gemm", "attention", "elementwise", "link", "host"]))
def test_a_step_never_gets_faster_when_a_price_rises(case: tuple[ResolvedRun, Layout], name: str):
    run, layout = case
    workload = workload_of(run)
    known = workload.calibration
    rates = ("gemm", "attention", "link")
    factor = 0.5 if name in rates else 2.0
    worse = replace(
        known,
        figures={
            key: replace(one, value=one.value * factor)
            if key.startswith(name) and not {"edge", "narrow", "call", "odd"} & set(key.split("."))
            else one
            for key, one in known.figures.items()
        },
    )

    dear, cheap = (price(run, layout, calibration=one).step_time_s for one in (worse, known))

    assert dear >= cheap * (1 - 1e-9)


@settings(deadline=None, max_examples=200)
@given(_priced())
def test_the_states_alone_never_exceed_the_peak(case: tuple[ResolvedRun, Layout]):
    run, layout = case
    workload = workload_of(run)

    assert states_floor_bytes(workload, layout) <= memory_of(workload, layout).total_bytes
