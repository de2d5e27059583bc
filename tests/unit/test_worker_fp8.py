"""Which FP8 recipe a GPU gets, and what is refused; FP8 itself needs a GPU and has not run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launch.workers.megatron_core import fp8
from launch.workers.megatron_core.arguments import Fp8Recipe, read_arguments
from launch.workers.megatron_core.device import Device, Kind
from orchestrator.errors import EngineRefused
from tests.unit.test_worker_arguments import MOE, written

CPU = Device(kind=Kind.CPU)
A100, L40, H100, B200, RTX_5090 = (
    Device(kind=Kind.CUDA, transformer_engine=True, capability=capability, cuda=(12, 9))
    for capability in ((8, 0), (8, 9), (9, 0), (10, 0), (12, 0))
)
WIDE = {
    "model__hidden_size": 256,
    "model__ffn_hidden_size": 1024,
    "model__num_attention_heads": 4,
    "model__head_dim": 64,
    "training__sequence_length": 64,
    "training__micro_batch_size": 4,
    "training__precision": "fp8",
}


def arguments(folder: Path, **changes: Any) -> Any:
    return read_arguments(written(folder, **{**WIDE, **changes}))


@pytest.mark.parametrize(
    ("device", "recipe"),
    [(L40, "tensorwise"), (H100, "tensorwise"), (B200, "mxfp8"), (RTX_5090, "tensorwise")],
    ids=["ada", "hopper", "blackwell", "consumer-blackwell"],
)
def test_the_recipe_follows_the_gpu(device, recipe) -> None:
    assert fp8.chosen(None, device) == recipe


@pytest.mark.parametrize("recipe", Fp8Recipe)
def test_a_recipe_that_runs_is_honoured(recipe) -> None:
    assert fp8.chosen(recipe, B200) is recipe


@pytest.mark.parametrize(
    ("recipe", "device", "needs"),
    [
        (None, CPU, "tensorwise needs a GPU with Transformer Engine"),
        (None, replace(H100, transformer_engine=False), "needs a GPU with Transformer Engine"),
        (None, A100, "needs compute capability 8.9 or more, and this GPU has 8.0"),
        (Fp8Recipe.MXFP8, H100, "mxfp8 needs compute capability 10.0 or more"),
        (Fp8Recipe.MXFP8, RTX_5090, "compute capability below 12.0, and this GPU has 12.0"),
        (Fp8Recipe.BLOCKWISE, L40, "blockwise needs compute capability 9.0 or more"),
        (
            Fp8Recipe.BLOCKWISE,
            replace(H100, cuda=(12, 8)),
            "blockwise needs CUDA 12.9 or more, and torch has 12.8",
        ),
    ],
)
def test_a_recipe_that_does_not_run_is_refused_with_what_it_needs(recipe, device, needs) -> None:
    with pytest.raises(EngineRefused, match=needs):
        fp8.chosen(recipe, device)


def test_a_refusal_names_the_recipes_that_run() -> None:
    with pytest.raises(EngineRefused, match="fp8_recipe: delayed, tensorwise, blockwise"):
        fp8.chosen(Fp8Recipe.MXFP8, H100)


def test_megatron_is_told_the_recipe_and_its_number_format(tmp_path) -> None:
    assert fp8.settings(arguments(tmp_path), H100) == {"fp8": "hybrid", "fp8_recipe": "tensorwise"}
    assert fp8.settings(arguments(tmp_path), B200) == {"fp8": "e4m3", "fp8_recipe": "mxfp8"}


def test_delayed_scaling_looks_back_a_thousand_steps(tmp_path) -> None:
    asked = arguments(tmp_path, training__fp8_recipe="delayed")

    assert fp8.settings(asked, H100)["fp8_amax_history_len"] == 1024


def test_other_precisions_have_no_recipe(tmp_path) -> None:
    assert fp8.settings(arguments(tmp_path, training__precision="bf16"), H100) == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model__hidden_size": 40}, "model.hidden_size: hidden size is 40, not a multiple of 16"),
        ({"model__ffn_hidden_size": 1000}, "FFN width / tp is 500"),
        ({"model__head_dim": 4}, "heads x head_dim / tp is 8"),
        ({"training__micro_batch_size": 1, "parallel__cp": 8}, "tokens of a microbatch on a rank"),
        ({"model__moe": {**MOE, "ffn_hidden_size": 40}}, "expert width / etp is 40"),
        ({"training__fp8_recipe": "blockwise"}, "FFN width / tp is 64, not a multiple of 128"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_widths_that_transformer_engine_would_refuse_are_named(tmp_path, changes, said) -> None:
    if "training__fp8_recipe" in changes:
        changes = {**changes, "model__ffn_hidden_size": 128}

    with pytest.raises(EngineRefused, match=said):
        fp8.settings(arguments(tmp_path, **changes), H100)


def test_a_cpu_is_a_device_without_transformer_engine() -> None:
    assert Device.here() == CPU
    assert CPU.backend == "gloo"
    assert H100.backend == "nccl"
