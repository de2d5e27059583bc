"""What megatron-core 0.16.1 does wrongly without Transformer Engine, on any device.

Each function repairs one thing and says which; all are applied before the model is built.
"""

import copy
import functools
from typing import Any

import torch
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer
from megatron.core.transformer.torch_norm import WrappedTorchNorm


def apply() -> None:
    """Apply every repair."""
    _allow_sequence_parallel_norm()
    _keep_adam_steps_apart()


# Any: these stand in front of an untyped engine's functions.


def _allow_sequence_parallel_norm() -> None:
    """Torch's norms work on tokens one by one, and yet are refused with sequence parallelism.

    What is missing is only the tag by which `finalize_model_grads` sums their gradients over tp.
    """
    build = WrappedTorchNorm.__new__

    @functools.wraps(build)
    def tagged(cls: type, config: Any, hidden_size: int, **kwargs: Any) -> Any:  # noqa: ANN401
        without = copy.copy(config)
        without.sequence_parallel = False
        norm = build(cls, without, hidden_size, **kwargs)
        for parameter in norm.parameters():
            parameter.sequence_parallel = config.sequence_parallel
        return norm

    WrappedTorchNorm.__new__ = staticmethod(tagged)


def _keep_adam_steps_apart() -> None:
    """Loading gives all parameters one `step` tensor, which each of them then counts up.

    Adam's bias correction is silently wrong after a resume. The same place also asks a checkpoint
    for a `step` per parameter, which it does not hold: answer with the parameter's own.
    """
    load = DistributedOptimizer._set_main_param_and_optimizer_states  # noqa: SLF001 - the repair

    @functools.wraps(load)
    def apart(self: Any, model_param: Any, tensors: dict[str, torch.Tensor]) -> None:  # noqa: ANN401
        group, order = self.model_param_group_index_map[model_param]
        state = self.optimizer.state[self.optimizer.param_groups[group]["params"][order]]
        if "step" in state:
            state["step"] = state["step"].clone()
            tensors = {"step": state["step"], **tensors}
        load(self, model_param, tensors)

    DistributedOptimizer._set_main_param_and_optimizer_states = apart  # noqa: SLF001 - the repair
