"""The worker's configuration file: what is read, and what is refused before torch is imported."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launch.workers.megatron_core.arguments import Activation, Granularity, read_arguments
from launch.workers.megatron_core.support import require_support
from orchestrator.errors import EngineRefused

RIGHT: dict[str, Any] = {
    "schema": 1,
    "model": {
        "num_layers": 4,
        "hidden_size": 64,
        "ffn_hidden_size": 256,
        "num_attention_heads": 4,
        "num_query_groups": 4,
        "head_dim": 16,
        "vocab_size": 257,
        "padded_vocab_size": 512,
        "max_sequence_length": 64,
        "gated_mlp": False,
        "activation": "gelu",
        "normalization": "LayerNorm",
        "norm_epsilon": 1e-5,
        "position_embedding": "learned_absolute",
        "rotary_base": None,
        "rope_scaling_factor": None,
        "tied_embeddings": True,
        "qkv_bias": True,
        "linear_bias": True,
        "qk_norm": False,
        "init_std": 0.02,
        "moe": None,
    },
    "parallel": {
        "tp": 2,
        "pp": 2,
        "vpp": 1,
        "cp": 1,
        "cp_comm_type": None,
        "ep": 1,
        "etp": 1,
        "sequence_parallel": False,
        "microbatch_group_size": None,
        "stage_layout": None,
        "token_dispatcher": "alltoall",
        "zero_stage": 1,
        "overlap": [],
    },
    "recompute": {"granularity": "none", "modules": [], "layers": None},
    "training": {
        "sequence_length": 32,
        "micro_batch_size": 2,
        "global_batch_size": 16,
        "batch_ramp": [],
        "steps": 10,
        "precision": "fp32",
        "fp8_recipe": None,
        "seed": 1,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "optimizer": {
            "learning_rate": 0.001,
            "min_learning_rate": 0,
            "initial_learning_rate": 0.0,
            "warmup_steps": 2,
            "decay_steps": 100,
            "decay_style": "cosine",
            "wsd_decay_steps": None,
            "wsd_decay_style": None,
            "beta1": 0.9,
            "beta2": 0.95,
            "epsilon": 1e-8,
            "weight_decay": 0.1,
            "clip_grad": 1.0,
        },
        "evaluation": None,
    },
    "data": {
        "sources": [{"prefix": "/data/corpus", "weight": 1.0}],
        "split": "1,0,0",
        "seed": 1,
        "cache_dir": "/data/cache",
        "end_of_document": 256,
    },
    "checkpoint": {"interval_steps": 5},
    "logging": {"interval_steps": 1, "tensorboard_dir": None},
}
ABSENT = object()
MOE: dict[str, Any] = {
    "num_experts": 8,
    "router_topk": 2,
    "ffn_hidden_size": 32,
    "shared_expert_ffn_hidden_size": None,
    "layers": [0, 1, 1, 1],
    "router_dtype": "fp32",
    "router_score": "softmax",
    "load_balancing": "aux_loss",
    "aux_loss_coeff": 0.01,
    "expert_bias_update_rate": None,
    "num_groups": None,
    "group_topk": None,
    "topk_scaling_factor": None,
    "apply_probs_on_input": False,
}
WITHOUT_TP = {"parallel__tp": 1}


def written(folder: Path, **changes: object) -> Path:
    """A file of the right configuration but for some keys: `model__hidden_size=8`."""
    config = copy.deepcopy(RIGHT)
    for place, value in changes.items():
        *sections, key = place.split("__")
        section = config
        for name in sections:
            section = section[name]
        if value is ABSENT:
            del section[key]
        else:
            section[key] = value
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def refusal(path: Path, *, world_size: int = 4) -> str:
    with pytest.raises(EngineRefused) as caught:
        require_support(read_arguments(path), world_size=world_size)
    return caught.value.reason


def test_a_right_file_is_read_into_arguments(tmp_path) -> None:
    arguments = read_arguments(written(tmp_path))

    assert arguments.model.activation is Activation.GELU
    assert arguments.recompute.granularity is Granularity.NONE
    assert arguments.training.optimizer.min_learning_rate == 0.0


def test_a_right_file_is_supported(tmp_path) -> None:
    arguments = read_arguments(written(tmp_path))

    assert require_support(arguments, world_size=8) is None


def test_experts_are_supported(tmp_path) -> None:
    path = written(tmp_path, model__moe=MOE, parallel__sequence_parallel=True, parallel__ep=2)

    assert require_support(read_arguments(path), world_size=8) is None


def test_ranks_that_share_a_sequence_share_its_batch(tmp_path) -> None:
    assert read_arguments(written(tmp_path, parallel__cp=2)).dp(8) == 1


def test_the_batch_is_shared_among_data_parallel_ranks(tmp_path) -> None:
    arguments = read_arguments(written(tmp_path))

    assert arguments.dp(8) == 2
    assert arguments.num_microbatches(8) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model__hiden_size": 8}, "model.hiden_size: unknown key\n  did you mean 'hidden_size'?"),
        ({"parallel__tp": ABSENT}, "parallel.tp: missing"),
        ({"parallel__tp": "2"}, "parallel.tp: expected a whole number, found '2'"),
        ({"parallel__tp": True}, "parallel.tp: expected a whole number, found True"),
        ({"parallel__tp": 2.0}, "parallel.tp: expected a whole number, found 2.0"),
        ({"parallel__sequence_parallel": 1}, "parallel.sequence_parallel: expected true or false"),
        ({"model__activation": "relu"}, "model.activation: found 'relu'\n  possible: gelu, silu"),
        ({"model__rotary_base": "ten"}, "model.rotary_base: expected a whole number"),
        ({"recompute__modules": [1]}, "recompute.modules[0]: expected text, found 1"),
        ({"recompute__modules": "core_attn"}, "recompute.modules: expected a list"),
        ({"training__optimizer": None}, "training.optimizer: expected an object, found null"),
        ({"training__optimizer__beta1": None}, "training.optimizer.beta1: expected a number"),
        ({"data__split": 3}, "data.split: expected text, found 3"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_malformed_file_is_refused_with_the_place(tmp_path, changes, said) -> None:
    assert said in refusal(written(tmp_path, **changes))


def test_every_malformed_key_is_named_at_once(tmp_path) -> None:
    reason = refusal(written(tmp_path, parallel__tp="2", model__layers=4, schema=ABSENT))

    assert reason.count("config.json: ") == 3


def test_a_file_that_is_not_json_is_refused(tmp_path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{")

    assert "not JSON" in refusal(path)


def test_numbers_that_are_not_finite_are_refused(tmp_path) -> None:
    path = written(tmp_path, training__optimizer__clip_grad=float("inf"))

    assert "clip_grad: expected a number, found inf" in refusal(path)


def test_a_missing_file_is_refused(tmp_path) -> None:
    assert "No such file" in refusal(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 2}, "schema: 2 is not 1"),
        ({"parallel__ep": 2}, "parallel.ep: 2 ranks would share experts, and the model has none"),
        ({"parallel__etp": 2}, "parallel.etp: 2 ranks would share experts"),
        ({"model__moe": {**MOE, "layers": [1]}}, "model.moe.layers: 1 entries for 4 layers"),
        ({"model__moe": {**MOE, "router_topk": 9}}, "model.moe.router_topk: 9 of 8 experts"),
        ({"model__moe": MOE, "parallel__ep": 3}, "parallel.ep: 3 does not divide 8 experts"),
        ({"model__moe": MOE}, "sequence_parallel: false, and experts with tp above 1 need it"),
        ({"model__moe": MOE, "parallel__etp": 2}, "etp: 2, and experts with biases cannot be"),
        (
            {"model__moe": {**MOE, "expert_bias_update_rate": 0.001}},
            "model.moe.router_score: softmax, and a router with expert biases needs sigmoid",
        ),
        ({"training__fp8_recipe": "mxfp8"}, "mxfp8: of no use when precision is fp32"),
        ({"model__rope_scaling_factor": 8.0}, "rope_scaling_factor: 8.0: of no use without rope"),
        (
            {"parallel__cp": 2, "training__sequence_length": 30},
            "training.sequence_length: 30 is not a multiple of 2 x cp = 4",
        ),
        (
            {"parallel__sequence_parallel": True, "training__sequence_length": 31},
            "training.sequence_length: 31 / cp = 31 is not a multiple of tp 2",
        ),
        ({"parallel__zero_stage": 2}, "parallel.zero_stage: 2 needs Megatron-FSDP"),
        ({"parallel__zero_stage": 3}, "parallel.zero_stage: 3 needs Megatron-FSDP"),
        ({"parallel__tp": 1, "parallel__sequence_parallel": True}, "divides activations over tp"),
        ({"parallel__pp": 1, "parallel__vpp": 2}, "2 chunks need a pipeline"),
        ({"parallel__tp": 0}, "parallel.tp: 0 is below 1"),
        ({"training__micro_batch_size": 0}, "training.micro_batch_size: 0 is below 1"),
        ({"checkpoint__interval_steps": 0}, "checkpoint.interval_steps: 0 is below 1"),
        ({"model__num_query_groups": 3}, "model.num_query_groups: 3 does not divide 4 heads"),
        ({"training__sequence_length": 65}, "65 is above the model's 64"),
        ({"model__padded_vocab_size": 256}, "256 is below the vocabulary it pads"),
        ({"data__end_of_document": 512}, "512 is below the vocabulary it pads"),
        ({"model__position_embedding": "rope"}, "model.rotary_base: missing, and rope needs it"),
        ({"recompute__granularity": "selective"}, "selective recompute needs some"),
        ({"recompute__modules": ["mlp"]}, "mlp: of no use when granularity is none"),
        ({"recompute__layers": 2}, "2: of no use when granularity is none"),
        ({"parallel__tp": 3}, "tp x cp x pp = 6 does not divide 4 ranks"),
        (
            {"model__moe": {**MOE, "num_experts": 9}, "parallel__ep": 3, **WITHOUT_TP},
            "etp x ep x pp = 6 does not divide 4 ranks",
        ),
        ({"training__global_batch_size": 15}, "15 is not a multiple of micro batch x dp = 2"),
        (
            {"parallel__vpp": 2, "parallel__microbatch_group_size": 1},
            "1 is not between pp = 2 and 8 microbatches",
        ),
        (
            {"parallel__vpp": 2, "training__global_batch_size": 6},
            "groups of 2 leave 1 of 3 microbatches, below pp = 2",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, changes, said) -> None:
    assert said in refusal(written(tmp_path, **changes))


def test_a_wrong_layout_is_refused_without_importing_torch(tmp_path) -> None:
    path = written(tmp_path, parallel__ep=2)
    words = f"run(['--config', {str(path)!r}], dict())"
    program = f"import sys; from launch.workers.megatron_core.main import run; code = {words}"

    done = subprocess.run(
        [sys.executable, "-c", f"{program}; sys.exit(code + 10 * ('torch' in sys.modules))"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 5, done.stderr
    assert done.stderr.startswith("megatron-core refuses the configuration: parallel.ep: 2")
