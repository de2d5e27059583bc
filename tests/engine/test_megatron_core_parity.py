"""Whatever the layout of a dense model, the same training: losses equal those of one rank.

Every layout starts from one checkpoint of a one-rank run and repeats its next thirty FP32 steps.
The weights are thereby the same at the start, which a seed alone does not give: pipeline stages
draw their own random numbers. A step is two microbatches of two sequences, in a pipeline four of
one.
"""

import math
from typing import Any

import pytest

from tests.engine.breadth import cases
from tests.engine.sameness import Reference, off

SMALL_BUCKETS = (
    "from launch.workers.megatron_core import model\n"
    "config = model.DistributedDataParallelConfig\n"
    "model.DistributedDataParallelConfig = lambda **fields: config(bucket_size=20_000, **fields)\n"
)
"""Megatron's buckets of 40 million parameters are one for a toy; then nothing would overlap."""

GPT_LAYOUTS = {
    "tp2": (2, {"tp": 2}),
    "pp2": (2, {"pp": 2}),
    "pp4": (4, {"pp": 4}),
    "pp2-vpp2": (2, {"pp": 2, "vpp": 2}),
    "cp2": (2, {"cp": 2}),
    "cp4": (4, {"cp": 4}),
    "dp2": (2, {}),
    "dp4-zero0-overlapped": (4, {"zero_stage": 0, "overlap": ["dp"]}),
    "dp4-zero1-overlapped": (4, {"zero_stage": 1, "overlap": ["dp"]}),
    "tp2-sp": (2, {"tp": 2, "sequence_parallel": True}),
    "tp2-pp2": (4, {"tp": 2, "pp": 2}),
    "pp2-uneven": (2, {"pp": 2, "stage_layout": "Et|tttL"}),
    "pp2-dp2-overlapped": (4, {"pp": 2, "overlap": ["dp"]}),
}
GPT_ALWAYS = (
    *("pp2-vpp2", "cp2", "dp2", "dp4-zero0-overlapped", "dp4-zero1-overlapped", "tp2-pp2"),
    *("pp2-uneven", "pp2-dp2-overlapped"),
)
LLAMA_LAYOUTS = {
    "cp2-tp2-sp": (4, {"cp": 2, "tp": 2, "sequence_parallel": True}),
    "cp2-pp2": (4, {"cp": 2, "pp": 2}),
    "cp2-dp2-zero0": (4, {"cp": 2, "zero_stage": 0}),
    "tp2-pp2-sp": (4, {"tp": 2, "pp": 2, "sequence_parallel": True}),
    "pp2-vpp3-uneven": (2, {"pp": 2, "vpp": 3, "stage_layout": "E|t|t|t|t|L"}),
}
LLAMA_ALWAYS = ("cp2-tp2-sp", "tp2-pp2-sp")
BF16_LAYOUTS = {"cp2-tp2": ({"cp": 2, "tp": 2},), "tp2-pp2": ({"tp": 2, "pp": 2},)}
RECOMPUTE = {
    "full": {"granularity": "full", "layers": 1},
    "selective": {"granularity": "selective", "modules": ["core_attn", "layernorm", "mlp"]},
}


@pytest.fixture(scope="module")
def gpt_reference(warm, gpt) -> Reference:
    return Reference.of(warm, gpt)


@pytest.fixture(scope="module")
def llama_reference(warm, llama) -> Reference:
    """With Llama 3's rotary scaling, which is on top of plain rotary positions."""

    def make(**changes: Any) -> dict[str, Any]:
        scaled = {"rope_scaling_factor": 8.0, **changes.pop("model", {})}
        return llama(model=scaled, **changes)

    return Reference.of(warm, make)


@pytest.mark.parametrize(("ranks", "parallel"), cases(GPT_LAYOUTS, always=GPT_ALWAYS))
def test_a_gpt_trains_as_on_one_rank(gpt_reference, ranks, parallel) -> None:
    before = SMALL_BUCKETS if "overlap" in parallel else ""

    run = gpt_reference.repeated(ranks, {"parallel": parallel}, before=before)

    assert off(run, gpt_reference.losses()) == {}


@pytest.mark.parametrize(("ranks", "parallel"), cases(LLAMA_LAYOUTS, always=LLAMA_ALWAYS))
def test_a_llama_trains_as_on_one_rank(llama_reference, ranks, parallel) -> None:
    run = llama_reference.repeated(ranks, {"parallel": parallel})

    assert off(run, llama_reference.losses()) == {}


@pytest.mark.parametrize("recompute", RECOMPUTE.values(), ids=RECOMPUTE)
def test_what_is_recomputed_changes_nothing(llama_reference, recompute) -> None:
    parallel = {"tp": 2, "pp": 2, "sequence_parallel": True}

    run = llama_reference.repeated(4, {"parallel": parallel, "recompute": recompute})

    assert off(run, llama_reference.losses()) == {}


@pytest.mark.parametrize("size", [1, pytest.param(4, marks=pytest.mark.slow_engine)])
def test_accumulation_changes_nothing(gpt_reference, size) -> None:
    run = gpt_reference.repeated(1, {"training": {"micro_batch_size": size}})

    assert off(run, gpt_reference.losses()) == {}


@pytest.fixture(scope="module")
def bf16_reference(warm, llama_reference) -> Reference:
    def make(**changes: Any) -> dict[str, Any]:
        precision = {"precision": "bf16", **changes.pop("training")}
        return llama_reference.make(training=precision, **changes)

    return Reference.of(warm, make)


@pytest.mark.parametrize("parallel", cases(BF16_LAYOUTS, always=["tp2-pp2"]))
def test_bf16_on_four_ranks_follows_bf16_on_one_within_half_a_percent(
    bf16_reference, parallel
) -> None:
    run = bf16_reference.repeated(4, {"parallel": parallel})

    assert off(run, bf16_reference.losses(), rel=5e-3) == {}


def test_bf16_follows_fp32_within_two_percent(llama_reference, bf16_reference) -> None:
    assert off(bf16_reference.run, llama_reference.losses(), rel=0.02) == {}


@pytest.mark.parametrize("style", ["gpt_reference", "llama_reference"])
def test_the_first_loss_is_that_of_knowing_nothing(request, style) -> None:
    reference = request.getfixturevalue(style)

    padded = 264  # rows of the embedding; the softmax runs over all of them
    assert reference.first_loss == pytest.approx(math.log(padded), rel=0.05)


def test_a_layout_that_trains_otherwise_is_noticed(gpt_reference) -> None:
    """The comparison can fail: two plain halves of a sequence are not the chunks that are meant."""
    halves = (
        "from megatron.core import parallel_state\n"
        "from launch.workers.megatron_core import step\n"
        "rank = parallel_state.get_context_parallel_rank\n"
        "step.own_chunks = lambda batch: {\n"
        "    name: tensor.chunk(2, dim=1)[rank()] for name, tensor in batch.items()}\n"
    )

    run = gpt_reference.repeated(2, {"parallel": {"cp": 2}}, before=halves)

    assert len(off(run, gpt_reference.losses())) >= 20
