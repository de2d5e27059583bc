"""Builds Megatron's optimizer."""

from typing import Any, Final

import torch
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer

from launch.workers.megatron_core.arguments import Arguments, Overlap
from launch.workers.megatron_core.model import DTYPES, Model

# Torch's; NVIDIA's fused Adam keeps its step elsewhere and allocates for itself.
TORCH_ADAM: Final = (torch.optim.Adam, torch.optim.AdamW)


def build_optimizer(arguments: Arguments, model: Model) -> Any:  # noqa: ANN401 - untyped engine
    """AdamW over this rank's parameters, its state allocated."""
    settings = arguments.training.optimizer
    dtype = DTYPES[arguments.training.precision]
    sharded = arguments.parallel.zero_stage == 1
    config = OptimizerConfig(
        optimizer="adam",
        lr=settings.learning_rate,
        min_lr=settings.min_learning_rate,
        weight_decay=settings.weight_decay,
        adam_beta1=settings.beta1,
        adam_beta2=settings.beta2,
        adam_eps=settings.epsilon,
        clip_grad=settings.clip_grad,
        bf16=dtype is torch.bfloat16,
        params_dtype=dtype,
        use_distributed_optimizer=sharded,
        overlap_param_gather=sharded and Overlap.DP in arguments.parallel.overlap,
    )
    optimizer = get_megatron_optimizer(config, model.chunks, use_gloo_process_groups=False)
    _allocate_state(optimizer)
    return optimizer


def _allocate_state(optimizer: Any) -> None:  # noqa: ANN401
    """Give each parameter zero moments and step 0, which is what no state means.

    A distributed optimizer over torch's Adam can otherwise not describe its state to a checkpoint
    before its first step, neither to save nor to load.
    """
    for part in getattr(optimizer, "chained_optimizers", [optimizer]):
        inner = part.optimizer
        if not isinstance(inner, TORCH_ADAM):
            continue
        for parameter in (p for group in inner.param_groups for p in group["params"]):
            inner.state[parameter] = {
                "step": torch.tensor(0.0),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
