"""A priced layout: what it holds together, and what limits it."""

from dataclasses import fields, replace

import pytest

from orchestrator.catalog.resolve import resolve
from orchestrator.cost.quote import LIMITS, MEMORY, binding_limit, price
from orchestrator.cost.workload import workload_of
from orchestrator.records.layout import Layout
from orchestrator.records.plan import CostParts, MemoryParts
from orchestrator.records.run import ResolvedRun
from orchestrator.specs.choices import OverlapAxis, ScheduleKind
from orchestrator.specs.cluster import ClusterSpec
from orchestrator.specs.run import RunSpec
from orchestrator.specs.training import TrainingSpec

SELENE = Layout(
    tp=8,
    pp=8,
    dp=16,
    sequence_parallel=True,
    overlap=(OverlapAxis.DP, OverlapAxis.TP),
    schedule=ScheduleKind.ONE_F_ONE_B,
)
LLAMA = Layout(
    tp=8,
    pp=16,
    dp=128,
    vpp=8,
    microbatch_group_size=16,
    sequence_parallel=True,
    overlap=(OverlapAxis.DP, OverlapAxis.PP, OverlapAxis.TP),
    schedule=ScheduleKind.INTERLEAVED,
    stage_layout="E|(t|)*126,L",
)


def _run(model: str, *, gpus: int, sequence: int, batch: int) -> ResolvedRun:
    training = TrainingSpec(sequence_length=sequence, global_batch_size=batch, steps=1)
    cluster = ClusterSpec(card="dgx-h100", gpus=gpus)
    spec = RunSpec(schema=1, name="x", model=model, cluster=cluster, training=training)
    return resolve(spec, file="x")


def _cost(**parts: float) -> CostParts:
    return CostParts(**{**{field.name: 0.0 for field in fields(CostParts)}, **parts})


def _memory(total_bytes: float) -> MemoryParts:
    parts = {field.name: 0.0 for field in fields(MemoryParts)}
    return MemoryParts(**{**parts, "activations_bytes": total_bytes})


def test_175b_on_16x8x8_is_priced_with_its_bubble():
    plan = price(_run("gpt3-175b", gpus=1024, sequence=2048, batch=1536), SELENE)

    assert plan.num_microbatches == 96
    # (p - 1) / (m + p - 1) of the step: 7.29 % of the work.
    assert plan.bubble.fraction == pytest.approx(7 / 103)
    assert plan.memory.total_bytes < plan.run.machine.memory_bytes


def test_llama_405b_steps_within_a_fifth_of_the_published_time():
    # Llama 3, table 4: 16,384 GPUs at 400 TFLOP/s are 6.22 s. Our fabric has no oversubscription.
    plan = price(_run("llama-3.1-405b", gpus=16_384, sequence=8192, batch=2048), LLAMA)

    assert plan.num_microbatches == 16
    assert plan.step_time_s == pytest.approx(6.22, rel=0.2)


def test_mfu_is_model_flop_over_the_dense_peak():
    plan = price(_run("gpt3-175b", gpus=1024, sequence=2048, batch=1536), SELENE)

    assert plan.mfu == pytest.approx(plan.model_flop_per_s_per_gpu / 989.4e12)


def test_memory_limits_where_it_is_nearly_used_up():
    run = _run("gpt3-175b", gpus=1024, sequence=2048, batch=1536)
    workload = workload_of(run)
    nearly = _memory(0.96 * workload.chip.memory_bytes)

    limit = binding_limit(_cost(matmul_s=1, bubble_s=1), nearly, workload=workload)

    assert limit == MEMORY


@pytest.mark.parametrize("field", sorted(LIMITS))
def test_the_largest_cause_beside_computation_limits(field: str):
    workload = workload_of(_run("gpt3-175b", gpus=1024, sequence=2048, batch=1536))

    limit = binding_limit(_cost(matmul_s=1, **{field: 0.1}), _memory(0), workload=workload)

    assert limit == LIMITS[field]


def test_computation_limits_where_everything_else_is_small():
    workload = workload_of(_run("gpt3-175b", gpus=1024, sequence=2048, batch=1536))

    limit = binding_limit(_cost(matmul_s=1, bubble_s=0.04), _memory(0), workload=workload)

    assert limit == "compute"


def test_every_part_of_a_step_is_computation_or_a_limit():
    computation = {"matmul_s", "attention_s", "elementwise_s", "logits_s"}

    assert {field.name for field in fields(CostParts)} == computation | set(LIMITS)


def test_slower_links_show_in_the_parts_that_use_them():
    run = _run("gpt3-175b", gpus=1024, sequence=2048, batch=1536)
    card = run.machine.cluster.model_copy(update={"network_gbit_per_s_per_gpu": 100.0})
    slower = replace(run, machine=replace(run.machine, cluster=card))

    fast, slow = price(run, SELENE).cost, price(slower, SELENE).cost

    assert slow.dp_comm_s > 3 * fast.dp_comm_s
    assert slow.pp_comm_s > 3 * fast.pp_comm_s
    assert slow.tp_comm_s == fast.tp_comm_s
