"""The optimizer's state by its parameters' global names, whatever optimizer holds it.

What Megatron does not shard of it (parameter groups, settings, the step) it stores as rank 0 has
it, in a structure that differs by ZeRO stage and by whether experts are spread. Here only moments
and master weights are stored, under names that all optimizers share; the rest is this run's own,
with the step put in. So state loads into another tp, pp, dp, ep and ZeRO stage.
"""

from collections.abc import Iterator
from typing import Any, Final

import torch
from megatron.core.dist_checkpointing.mapping import (
    LocalNonpersistentObject,
    ShardedBase,
    ShardedStateDict,
)

from launch.workers.megatron_core.optimizer import TORCH_ADAM

# Of the distributed optimizer's formats only this one can change tp and pp with torch's Adam in
# 0.16.1; without the prefix, state has one name whether or not experts have an optimizer of theirs.
_FORMAT: Final = {
    "distrib_optim_sharding_type": "fully_reshardable",
    "distrib_optim_fully_reshardable_mem_efficient": False,
    "chained_optim_avoid_prefix": True,
}
_MASTER: Final = "param"  # the distributed optimizer's word for what the other calls fp32_param
_MASTER_NAMES: Final = ("optimizer.state.param.", "optimizer.state.fp32_param.")

# Any: the engine is untyped, and its state is a tree of dicts and lists.
State = dict[Any, Any]
_Leaf = tuple[str, Any, Any]


def described(optimizer: Any, models: ShardedStateDict, *, is_loading: bool) -> State:  # noqa: ANN401
    """The state as a tree; `sharded` finds in it what a checkpoint keeps."""
    state: State = optimizer.sharded_state_dict(
        dict(models), is_loading=is_loading, metadata=_FORMAT
    )
    for _, node, key in list(_leaves(state)):
        leaf = node[key]
        if isinstance(leaf, ShardedBase) and key == _MASTER:
            if optimizer.config.bf16:
                leaf.key = leaf.key.replace(*_MASTER_NAMES, 1)
            else:  # in FP32 it is the model's weight, which is stored already
                del node[key]
    return state


def sharded(state: State) -> ShardedStateDict:
    """Moments and master weights, each under its place in the tree."""
    found = {path: node[key] for path, node, key in _leaves(state)}
    return {path: leaf for path, leaf in found.items() if isinstance(leaf, ShardedBase)}


def load(optimizer: Any, state: State, loaded: dict[str, Any], *, step: int) -> None:  # noqa: ANN401
    """Put what was loaded where `sharded` found it, and let the optimizer take it up.

    `step` counts the updates made; no update is ever skipped in FP32 and BF16.
    """
    for path, node, key in list(_leaves(state)):
        if path in loaded:
            node[key] = loaded[path]
        elif isinstance(node[key], LocalNonpersistentObject):
            node[key] = node[key].unwrap()
    chained = getattr(optimizer, "chained_optimizers", [optimizer])
    parts = [state] if len(chained) == 1 else [state[i] for i in range(len(chained))]
    for part, own in zip(chained, parts, strict=True):
        _put_step(part, own, step)
    optimizer.load_state_dict(state)


def _put_step(optimizer: Any, state: State, step: int) -> None:  # noqa: ANN401
    """Torch's Adam has a step for each parameter; the distributed one, and NVIDIA's, in groups."""
    inner = state.get("optimizer", state)
    if isinstance(optimizer.optimizer, TORCH_ADAM) and "state" in inner:
        inner["state"]["common_step"] = torch.tensor(float(step))
        return
    for group in inner["param_groups"]:
        group["step"] = step


def _leaves(tree: Any, path: str = "") -> Iterator[_Leaf]:  # noqa: ANN401
    """Each value that is no dict or list: its path, what holds it, and under which key."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        below = f"{path}/{key}"
        if isinstance(value, dict | list):
            yield from _leaves(value, below)
        else:
            yield below, tree, key
