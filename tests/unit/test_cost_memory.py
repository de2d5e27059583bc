"""States by ZeRO stage, activations by layer, and the fullest rank."""

from dataclasses import replace

import pytest

from orchestrator.catalog.resolve import resolve
from orchestrator.cost.activations import kept_bytes, layer_activations
from orchestrator.cost.memory import memory_of, states_floor_bytes
from orchestrator.cost.shape import LayerKind
from orchestrator.cost.slice import slice_of
from orchestrator.cost.states import ZERO_PAPER, sharded_states, state_bytes_of
from orchestrator.cost.workload import Workload, workload_of
from orchestrator.records.layout import Layout, Recompute
from orchestrator.specs.choices import Offload, Precision, RecomputeGranularity, ScheduleKind
from orchestrator.specs.cluster import ClusterSpec
from orchestrator.specs.run import RunSpec
from orchestrator.specs.training import TrainingSpec
from orchestrator.units import GB, GIB

FULL = Recompute(granularity=RecomputeGranularity.FULL)
SELENE = Layout(
    tp=8,
    pp=8,
    dp=16,
    vpp=3,
    microbatch_group_size=8,
    sequence_parallel=True,
    schedule=ScheduleKind.INTERLEAVED,
)


def _workload(model: str, *, gpus: int, sequence: int = 2048, dropout: float = 0.0) -> Workload:
    training = TrainingSpec(
        sequence_length=sequence, global_batch_size=1536, steps=1, hidden_dropout=dropout
    )
    cluster = ClusterSpec(card="dgx-h100", gpus=gpus)
    spec = RunSpec(schema=1, name="x", model=model, cluster=cluster, training=training)
    return workload_of(resolve(spec, file="x"))


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_zero_stages_give_the_figures_of_the_paper(stage: int, gigabytes: float):
    # Rajbhandari et al. 2020, figure 1: 7.5 B parameters on 64 devices.
    states = sharded_states(7.5e9, ZERO_PAPER, zero_stage=stage, domain=64)

    assert states.total_bytes / GB == pytest.approx(gigabytes, abs=0.05)


def test_175b_on_16x8x8_keeps_18_46_gb_of_states():
    # 175e9 / (8 x 8) parameters on a rank: 2 + 4 + 12 / 16 bytes each.
    states = sharded_states(175e9 / 64, state_bytes_of(Precision.BF16), zero_stage=1, domain=16)

    assert states.total_bytes / GB == pytest.approx(18.46, abs=0.005)


def test_the_first_stage_of_175b_keeps_a_little_more_for_the_embedding():
    workload = _workload("gpt3-175b", gpus=1024)

    memory = memory_of(workload, SELENE)

    states = memory.parameters_bytes + memory.gradients_bytes + memory.optimizer_bytes
    assert states / GB == pytest.approx(18.46, rel=0.035)


def test_a_gpt_layer_with_dropout_keeps_34_bytes_an_element():
    # Korthikanti et al. 2022, section 4.2: 34 s b h / t, attention's scores recomputed.
    workload = _workload("gpt3-175b", gpus=1024, dropout=0.1)
    part = slice_of(workload, SELENE)

    layer = layer_activations(workload, part, kind=LayerKind.DENSE)

    assert layer.total_bytes - layer.core_bytes == 34 * 2048 * 12288 / 8


def test_activations_of_175b_are_those_profiled_by_megatron():
    # 12.35 GiB profiled on A100: tp 8, pp 8, vpp 3, selective recomputation.
    workload = _workload("gpt3-175b", gpus=1024, dropout=0.1)

    memory = memory_of(workload, SELENE)

    assert memory.activations_bytes / GIB == pytest.approx(12.35, rel=0.01)


def test_sequence_parallelism_divides_what_tensor_parallelism_repeats():
    workload = _workload("gpt3-175b", gpus=1024)
    repeated = slice_of(workload, replace(SELENE, sequence_parallel=False))
    divided = slice_of(workload, SELENE)

    more, less = (
        layer_activations(workload, part, kind=LayerKind.DENSE) for part in (repeated, divided)
    )

    assert more.norm_bytes == 8 * less.norm_bytes
    assert more.dense_inner_bytes == less.dense_inner_bytes


def test_full_recomputation_keeps_the_input_alone():
    workload = _workload("gpt3-175b", gpus=1024)
    layer = layer_activations(workload, slice_of(workload, SELENE), kind=LayerKind.DENSE)

    assert kept_bytes(layer, FULL) == 2 * 2048 * 12288 / 8


def test_selective_recomputation_drops_the_modules_that_are_named():
    workload = _workload("mixtral-8x7b", gpus=8)
    part = slice_of(workload, Layout(tp=1, pp=1, dp=8))
    layer = layer_activations(workload, part, kind=LayerKind.MOE)
    whole = Recompute(granularity=RecomputeGranularity.SELECTIVE, modules=("moe", "moe_act"))
    act = Recompute(granularity=RecomputeGranularity.SELECTIVE, modules=("moe_act",))

    assert kept_bytes(layer, act) == layer.total_bytes - layer.expert_activation_bytes
    assert kept_bytes(layer, whole) == layer.total_bytes - (
        layer.expert_input_bytes + layer.expert_inner_bytes + layer.expert_activation_bytes
    )


def test_partial_recomputation_lies_between_none_and_all():
    workload = _workload("llama-3.1-70b", gpus=64)
    layout = Layout(tp=4, pp=4, dp=4, sequence_parallel=True, schedule=ScheduleKind.ONE_F_ONE_B)
    some = Recompute(granularity=RecomputeGranularity.FULL, layers=5)

    none, part, whole = (
        memory_of(workload, replace(layout, recompute=recompute)).activations_bytes
        for recompute in (Recompute(), some, FULL)
    )

    assert whole < part < none


def test_the_last_rank_is_the_fullest_where_logits_weigh_more_than_microbatches():
    workload = _workload("llama-3.1-8b", gpus=8)
    layout = Layout(
        tp=1, pp=2, dp=4, recompute=FULL, micro_batch_size=8, schedule=ScheduleKind.ONE_F_ONE_B
    )

    memory = memory_of(workload, layout)

    # 8 sequences of 2,048 tokens: 128,256 logits of 8 bytes, and one microbatch in flight of
    # 16 layers' inputs, beside what one layer needs while it is recomputed.
    layer = layer_activations(workload, slice_of(workload, layout), kind=LayerKind.DENSE)
    assert memory.logits_bytes == 8 * 2048 * 128_256 * 8
    assert memory.activations_bytes == 15 * layer.input_bytes + layer.total_bytes


def test_fp8_keeps_inputs_narrow_and_copies_of_weights():
    training = TrainingSpec(
        sequence_length=2048, global_batch_size=8, steps=1, precision=Precision.FP8
    )
    spec = RunSpec(
        schema=1,
        name="x",
        model="llama-3.1-8b",
        cluster=ClusterSpec(card="dgx-h100", gpus=8),
        training=training,
    )
    layout = Layout(tp=1, pp=1, dp=8)

    narrow = memory_of(workload_of(resolve(spec, file="x")), layout)
    wide = memory_of(_workload("llama-3.1-8b", gpus=8), layout)

    assert narrow.activations_bytes < wide.activations_bytes
    assert narrow.parameters_bytes == 2 * wide.parameters_bytes


def test_the_floor_is_below_the_peak():
    workload = _workload("gpt3-175b", gpus=1024)

    assert states_floor_bytes(workload, SELENE) < memory_of(workload, SELENE).total_bytes


@pytest.mark.parametrize(
    ("offload", "left"),
    [("optimizer", (True, False)), ("parameters", (False, False)), ("none", (True, True))],
)
def test_what_is_offloaded_is_not_on_the_device(offload: str, left: tuple[bool, bool]):
    layout = Layout(tp=1, pp=1, dp=8, zero_stage=3, offload=Offload(offload))
    memory = memory_of(_workload("llama-2-7b", gpus=8), layout)

    assert (memory.parameters_bytes > 0, memory.optimizer_bytes > 0) == left
    assert memory.gradients_bytes > 0
