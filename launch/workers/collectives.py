"""A progress mark before each collective, so that a hang shows where each rank waits.

The functions of `torch.distributed` are replaced by thin ones that mark and call. They must be in
place before the engine is imported, because Megatron keeps some functions under its own names.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch.distributed as dist
from torch.distributed import distributed_c10d

Mark = Callable[[str], None]

COLLECTIVES = (
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_reduce",
    "all_to_all",
    "all_to_all_single",
    "barrier",
    "batch_isend_irecv",
    "broadcast",
    "broadcast_object_list",
    "gather",
    "gather_object",
    "irecv",
    "isend",
    "recv",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "scatter",
    "send",
    "_all_gather_base",
    "_reduce_scatter_base",
)

# Megatron's descriptions of the groups it makes, in our words.
_GROUP_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "default_pg": "world",
        "TENSOR_MODEL_PARALLEL_GROUP": "tp",
        "PIPELINE_MODEL_PARALLEL_GROUP": "pp",
        "DATA_PARALLEL_GROUP": "dp",
        "DATA_PARALLEL_GROUP_WITH_CP": "dp",
        "CONTEXT_PARALLEL_GROUP": "cp",
        "MODEL_PARALLEL_GROUP": "tp-pp",
        "EMBEDDING_GROUP": "embedding",
    }
)


def mark_collectives(mark: Mark) -> None:
    """Have every collective and point-to-point call mark itself first: `all_reduce tp 8`."""
    for name in COLLECTIVES:
        marking = _marking(getattr(distributed_c10d, name), name, mark)
        # In both places: P2POp compares the function it is given with that of distributed_c10d.
        setattr(distributed_c10d, name, marking)
        setattr(dist, name, marking)


def _marking(function: Callable[..., Any], name: str, mark: Mark) -> Callable[..., Any]:
    labels: dict[dist.ProcessGroup | None, str] = {}

    @functools.wraps(function)
    def marked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any collective's signature
        group = kwargs["group"] if "group" in kwargs else _group_among(args)
        label = labels.get(group)
        if label is None:
            label = labels[group] = _label(name, group)
        mark(label)
        return function(*args, **kwargs)

    return marked


def _group_among(args: tuple[Any, ...]) -> dist.ProcessGroup | None:
    for arg in args:
        if isinstance(arg, dist.ProcessGroup):
            return arg
        if isinstance(arg, list) and arg and isinstance(arg[0], dist.P2POp):
            return arg[0].group  # batch_isend_irecv
    return None


def _label(name: str, group: dist.ProcessGroup | None) -> str:
    if group is None:
        return f"{name} world"
    word = _GROUP_WORDS.get(group.group_desc, group.group_desc or "group")
    return f"{name} {word} {group.size()}"
