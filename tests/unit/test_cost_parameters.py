"""Parameter counts, of models and of ranks."""

from dataclasses import replace

import pytest

from orchestrator.catalog.cards import model_card
from orchestrator.catalog.resolve import resolve
from orchestrator.cost.memory import memory_of
from orchestrator.cost.parameters import active_parameters, mtp_parameters, total_parameters
from orchestrator.cost.shape import LayerKind, shape_of
from orchestrator.cost.share import held_parameters, shares_of
from orchestrator.cost.workload import workload_of
from orchestrator.records.layout import Layout
from orchestrator.records.run import ResolvedRun
from orchestrator.specs.choices import ScheduleKind
from orchestrator.specs.cluster import ClusterSpec
from orchestrator.specs.run import RunSpec
from orchestrator.specs.training import TrainingSpec

MIDDLE = [(False, False)] * 2


def _run(model: str, *, gpus: int) -> ResolvedRun:
    training = TrainingSpec(sequence_length=2048, global_batch_size=gpus, steps=1)
    cluster = ClusterSpec(card="dgx-h100", gpus=gpus)
    return resolve(
        RunSpec(schema=1, name="x", model=model, cluster=cluster, training=training), file="x"
    )


def test_llama_405b_is_counted_to_the_last_parameter():
    assert total_parameters(shape_of(model_card("llama-3.1-405b"))) == 405_853_388_800


@pytest.mark.parametrize(
    ("name", "published_b"),
    [
        ("gpt3-175b", 175.0),
        ("llama-2-13b", 13.02),
        ("llama-3.1-8b", 8.03),
        ("llama-3.1-70b", 70.55),
        ("mixtral-8x7b", 46.7),
        ("deepseek-v3", 671.0),
    ],
)
def test_a_model_has_the_parameters_that_its_publisher_says(name: str, published_b: float):
    count_b = total_parameters(shape_of(model_card(name))) / 1e9

    assert count_b == pytest.approx(published_b, rel=0.003)


@pytest.mark.parametrize(
    ("name", "published_b"), [("mixtral-8x7b", 12.9), ("deepseek-v3", 37.0)], ids=str
)
def test_a_token_meets_the_active_parameters_alone(name: str, published_b: float):
    active_b = active_parameters(shape_of(model_card(name))) / 1e9

    assert active_b == pytest.approx(published_b, rel=0.02)


def test_multi_token_prediction_of_deepseek_adds_its_published_size():
    # The checkpoint's 14 B holds copies of embedding and output, 2 x 129,280 x 7,168.
    copies = 2 * 129_280 * 7_168

    added_b = (mtp_parameters(shape_of(model_card("deepseek-v3"))) + copies) / 1e9

    assert added_b == pytest.approx(14, rel=0.05)


def test_layers_are_of_the_kind_that_the_pattern_says():
    shape = shape_of(model_card("deepseek-v3"))

    assert shape.kinds[:4] == (LayerKind.DENSE,) * 3 + (LayerKind.MOE,)
    assert shape.count(LayerKind.MOE) == 58


def test_ranks_of_a_pipeline_hold_the_whole_model_once():
    run = _run("llama-3.1-8b", gpus=8)
    workload = workload_of(run)
    layout = Layout(tp=1, pp=8, dp=1, schedule=ScheduleKind.ONE_F_ONE_B)

    held = [
        held_parameters(workload, layout, share).total
        for share in shares_of(workload.shape, layout)
    ]

    # 128,256 is a multiple of 128: no padding.
    assert sum(held) == total_parameters(workload.shape)


def test_a_v_brings_embedding_and_loss_to_the_first_rank():
    # ZB-V and DualPipeV turn around on the last rank: stages 0 and 7 are the first rank's.
    run = _run("llama-3.1-8b", gpus=8)
    workload = workload_of(run)
    loop = Layout(tp=1, pp=4, vpp=2, dp=2, schedule=ScheduleKind.INTERLEAVED)
    v = replace(loop, schedule=ScheduleKind.ZB_V)

    looped, turned = (shares_of(workload.shape, layout) for layout in (loop, v))

    assert [(one.embedding, one.head) for one in looped] == [(True, False), *MIDDLE, (False, True)]
    assert [(one.embedding, one.head) for one in turned] == [(True, True), *MIDDLE, (False, False)]
    assert memory_of(workload, v).parameters_bytes > memory_of(workload, loop).parameters_bytes


def test_tensor_parallel_ranks_repeat_norms_alone():
    run = _run("llama-3.1-8b", gpus=8)
    workload = workload_of(run)
    whole, cut = (Layout(tp=tp, pp=1, dp=8 // tp) for tp in (1, 4))

    held_whole, held_cut = (
        held_parameters(workload, layout, shares_of(workload.shape, layout)[0]).total
        for layout in (whole, cut)
    )

    norms = (2 * 32 + 1) * 4096
    padding = 2 * (workload.padded_vocab(4) - workload.padded_vocab(1)) * 4096
    assert 4 * (held_cut - norms) == held_whole - norms + padding


def test_experts_are_divided_by_ep_and_etp():
    run = _run("mixtral-8x7b", gpus=8)
    workload = workload_of(run)
    layouts = [Layout(tp=2, pp=1, dp=4, ep=ep, etp=etp) for ep, etp in ((1, 1), (4, 1), (4, 2))]

    experts = [
        held_parameters(workload, layout, shares_of(workload.shape, layout)[0]).expert
        for layout in layouts
    ]

    assert experts == [32 * 8 * 3 * 4096 * 14336 // by for by in (1, 4, 8)]


def test_a_tied_output_is_a_copy_on_another_stage():
    run = _run("gpt3-175b", gpus=8)
    workload = workload_of(run)
    one = Layout(tp=1, pp=1, dp=8)
    two = Layout(tp=1, pp=2, dp=4, schedule=ScheduleKind.ONE_F_ONE_B)

    held_one, held_two = (
        sum(
            held_parameters(workload, layout, share).total
            for share in shares_of(workload.shape, layout)
        )
        for layout in (one, two)
    )

    assert held_two - held_one == workload.padded_vocab(1) * 12288
