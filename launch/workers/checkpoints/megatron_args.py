"""What the arguments that Megatron-LM saves with a checkpoint say of its run."""

from argparse import Namespace
from typing import Any

_DEGREES = {
    "tp": "tensor_model_parallel_size",
    "pp": "pipeline_model_parallel_size",
    "cp": "context_parallel_size",
    "ep": "expert_model_parallel_size",
    "dp": "data_parallel_size",
}
_SIZES = {
    "num_layers": "num_layers",
    "hidden_size": "hidden_size",
    "ffn_hidden_size": "ffn_hidden_size",
    "num_attention_heads": "num_attention_heads",
    "padded_vocab_size": "padded_vocab_size",
}


def said_by(args: Namespace) -> dict[str, Any]:
    """Return the fields of a `SavedCheckpoint` but for its format, files, step and parameters."""
    given = vars(args)
    degrees = _numbers(given, _DEGREES)
    is_sharded = given.get("use_distributed_optimizer") is True
    fsdp = given.get("data_parallel_sharding_strategy") if given.get("use_megatron_fsdp") else None
    stage = {"optim_grads": 2, "optim_grads_params": 3}.get(str(fsdp), int(is_sharded))
    world = given.get("world_size")
    return {
        "samples": _number(given.get("consumed_train_samples")),
        "sequence_length": _number(given.get("seq_length")),
        "degrees": degrees,
        "world_size": _number(world),
        "zero_stage": stage if given else None,
        "precision": _precision(given),
        "written_by": "Megatron-LM" if given else None,
        "reshards_optimizer": not is_sharded
        or given.get("dist_ckpt_optim_fully_reshardable") is True,
        "model": _numbers(given, _SIZES),
    }


def _numbers(given: dict[str, Any], names: dict[str, str]) -> dict[str, int]:
    found = {ours: _number(given.get(theirs)) for ours, theirs in names.items()}
    return {name: value for name, value in found.items() if value is not None}


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _precision(given: dict[str, Any]) -> str | None:
    if not given:
        return None
    if given.get("fp8"):
        return "fp8"
    return "bf16" if given.get("bf16") else "fp16" if given.get("fp16") else "fp32"
