"""What megatron-core 0.16.1 does wrongly without Transformer Engine, on any device.

Each function repairs one thing and says which; all are applied before the model is built.
"""

import copy
import functools
from typing import Any

import torch
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer
from megatron.core.tensor_parallel import random as recompute
from megatron.core.transformer.moe import moe_utils, token_dispatcher
from megatron.core.transformer.torch_norm import WrappedTorchNorm


@functools.cache
def apply() -> None:
    """Apply every repair, once and for good in this process."""
    allow_sequence_parallel_norm()
    keep_adam_steps_apart()
    load_what_is_stored()
    let_ranks_hold_no_state()
    save_state_where_it_is()
    route_without_transformer_engine()
    recompute_without_transformer_engine()
    count_tokens_on_the_host()


# Any: these stand in front of an untyped engine's functions.


def allow_sequence_parallel_norm() -> None:
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


def keep_adam_steps_apart() -> None:
    """Loading gives all parameters one `step` tensor, which each of them then counts up.

    Adam's bias correction is silently wrong after a resume.
    """
    load = DistributedOptimizer.load_state_dict

    @functools.wraps(load)
    def apart(self: Any, state_dict: Any) -> None:  # noqa: ANN401
        load(self, state_dict)
        for state in self.optimizer.state.values():
            if "step" in state:
                state["step"] = state["step"].clone()

    DistributedOptimizer.load_state_dict = apart


def load_what_is_stored() -> None:
    """Loading asks for a `step` for each parameter, and for the parameter itself.

    A checkpoint has neither: the step comes with the parameter groups, and in FP32 the parameter is
    the weight that has been loaded already. Answer with the optimizer's own.
    """
    load = DistributedOptimizer._set_main_param_and_optimizer_states  # noqa: SLF001 - the repair

    @functools.wraps(load)
    def filled(self: Any, model_param: Any, tensors: dict[str, torch.Tensor]) -> None:  # noqa: ANN401
        group, order = self.model_param_group_index_map[model_param]
        own = self.optimizer.param_groups[group]["params"][order]
        load(self, model_param, {"param": own, **self.optimizer.state[own], **tensors})

    DistributedOptimizer._set_main_param_and_optimizer_states = filled  # noqa: SLF001 - the repair


def let_ranks_hold_no_state() -> None:
    """A distributed optimizer asserts that it has counted steps, and has none without parameters.

    So it is for experts on a pipeline stage that has none.
    """
    describe = DistributedOptimizer.state_dict

    @functools.wraps(describe)
    def described(self: Any) -> Any:  # noqa: ANN401
        inner = self.optimizer
        if inner.state or not isinstance(inner, torch.optim.Adam | torch.optim.AdamW):
            return describe(self)
        inner.state["nothing"] = {"step": torch.tensor(0.0)}
        try:
            return describe(self)
        finally:
            del inner.state["nothing"]

    DistributedOptimizer.state_dict = described


def save_state_where_it_is() -> None:
    """State to be saved is gathered without the padding of buckets, and cut up as if it were there.

    Moments behind a padded bucket are then saved shifted, silently. Buckets are padded to 128 or
    dp, and tied embeddings are a bucket of their own. Put the padding back before it is cut up.
    """
    gather = DistributedOptimizer.get_parameter_state_dp_zero

    @functools.wraps(gather)
    def padded(self: Any, **options: Any) -> Any:  # noqa: ANN401
        state = gather(self, **options)
        for index, buffer in enumerate(self.buffers if state is not None else ()):
            for tensors in state[index].values():
                found = [key for key, value in tensors.items() if torch.is_tensor(value)]
                tensors |= {key: _with_padding(tensors[key], buffer) for key in found}
        return state

    DistributedOptimizer.get_parameter_state_dp_zero = padded


def _with_padding(dense: torch.Tensor, buffer: Any) -> torch.Tensor:  # noqa: ANN401
    """A buffer's values with each bucket where the buffer has it."""
    spaced = dense.new_zeros(buffer.numel)
    start = 0
    for bucket in buffer.buckets:
        end = start + bucket.numel_unpadded
        spaced[bucket.offset : bucket.offset + bucket.numel_unpadded] = dense[start:end]
        start = end
    return spaced


def route_without_transformer_engine() -> None:
    """The router asks whether a function of Transformer Engine's is None, and it is undefined."""
    if not hasattr(moe_utils, "te_general_gemm"):
        moe_utils.te_general_gemm = None


def recompute_without_transformer_engine() -> None:
    """Recomputed norms ask Transformer Engine about FP8, as `fp8=False` is taken for a format."""
    if hasattr(recompute, "FP8GlobalStateManager"):
        return
    build = recompute.CheckpointWithoutOutput.__init__

    @functools.wraps(build)
    def built(self: Any, fp8: Any = None) -> None:  # noqa: ANN401
        build(self, fp8=fp8 or None)

    recompute.CheckpointWithoutOutput.__init__ = built


def count_tokens_on_the_host() -> None:
    """Tokens per expert become numbers only when they come from a GPU; all-to-all needs numbers."""
    move = token_dispatcher.maybe_move_tensor_to_cpu

    @functools.wraps(move)
    def moved(tensor: Any, *, as_numpy: bool = False, **options: Any) -> Any:  # noqa: ANN401
        result = move(tensor, as_numpy=as_numpy, **options)
        return result.numpy() if as_numpy and torch.is_tensor(result) else result

    token_dispatcher.maybe_move_tensor_to_cpu = moved
