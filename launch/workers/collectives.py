"""A progress mark before each collective, so that a hang shows where each rank waits.

The functions of `torch.distributed` are replaced by thin ones that mark and call. They must be in
place before the engine is imported, because Megatron keeps some functions under its own names.

A mark names the group and its ranks and counts: `all_reduce tp 0-3 #12` is the twelfth time that
this rank does something in that group. What goes from one rank to another is a group of its own,
`isend pp 0>4 #3`, which sender and receiver count alike. So it can be told who waits for whom.
"""

import functools
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import torch.distributed as dist
from torch.distributed import distributed_c10d

Arrive = Callable[[str, str], None]  # an operation, and its group with the ranks in it

COLLECTIVES = (
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_reduce",
    "all_to_all",
    "all_to_all_single",
    "barrier",
    "broadcast",
    "broadcast_object_list",
    "gather",
    "gather_object",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "scatter",
    "_all_gather_base",
    "_reduce_scatter_base",
)
# From one rank to another; `batch_isend_irecv` calls them, and is not marked itself.
SENDS = ("isend", "send")
RECEIVES = ("irecv", "recv")

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


class CollectiveMarks:
    """Whom the replaced functions tell; nobody, until a rank says so."""

    def __init__(self) -> None:
        self.told: Arrive | None = None

    def arrive(self, operation: str, group: str) -> None:
        """Pass a mark on."""
        if self.told is not None:
            self.told(operation, group)


@functools.cache
def replace_collectives() -> CollectiveMarks:
    """Have every collective and point-to-point call mark itself first.

    Once and for good, in this process and in those that are forked from it.
    """
    marks = CollectiveMarks()
    arrive = marks.arrive
    for name in COLLECTIVES:
        _replace(name, _marking(getattr(distributed_c10d, name), name, arrive))
    for names, is_sender in ((SENDS, True), (RECEIVES, False)):
        for name in names:
            function = getattr(distributed_c10d, name)
            _replace(name, _marking_transfer(function, name, arrive, is_sender=is_sender))
    return marks


def _replace(name: str, marking: Callable[..., Any]) -> None:
    # In both places: P2POp compares the function it is given with that of distributed_c10d.
    setattr(distributed_c10d, name, marking)
    setattr(dist, name, marking)


def _marking(function: Callable[..., Any], name: str, arrive: Arrive) -> Callable[..., Any]:
    groups: dict[dist.ProcessGroup | None, str] = {}

    @functools.wraps(function)
    def marked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any collective's signature
        group = kwargs["group"] if "group" in kwargs else _group_among(args)
        text = groups.get(group)
        if text is None:
            text = groups[group] = f"{_word(group)} {_ranks_text(_ranks(group))}"
        arrive(name, text)
        return function(*args, **kwargs)

    return marked


def _marking_transfer(
    function: Callable[..., Any], name: str, arrive: Arrive, *, is_sender: bool
) -> Callable[..., Any]:
    far = "dst" if is_sender else "src"
    texts: dict[tuple[dist.ProcessGroup | None, int | None, int | None], str] = {}

    @functools.wraps(function)
    def marked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any transfer's signature
        group = kwargs["group"] if "group" in kwargs else _group_among(args)
        peer = kwargs[far] if far in kwargs else (args[1] if len(args) > 1 else None)
        key = (group, peer, kwargs.get(f"group_{far}"))
        text = texts.get(key)
        if text is None:
            text = texts[key] = _transfer_text(*key, is_sender=is_sender)
        arrive(name, text)
        return function(*args, **kwargs)

    return marked


def _transfer_text(
    group: dist.ProcessGroup | None,
    peer: int | None,
    peer_in_group: int | None,
    *,
    is_sender: bool,
) -> str:
    """`pp 0>4`; a receiver that takes from anybody names nobody."""
    if peer_in_group is not None:
        peer = _ranks(group)[peer_in_group]
    own, other = dist.get_rank(), "any" if peer is None else peer
    return f"{_word(group)} {own}>{other}" if is_sender else f"{_word(group)} {other}>{own}"


def _group_among(args: tuple[Any, ...]) -> dist.ProcessGroup | None:
    return next((arg for arg in args if isinstance(arg, dist.ProcessGroup)), None)


def _ranks(group: dist.ProcessGroup | None) -> list[int]:
    return list(dist.get_process_group_ranks(group or dist.group.WORLD))


def _ranks_text(ranks: list[int]) -> str:
    """`0-3`, `0-6:2`, or a list; one that a label has no room for is cut and names nobody."""
    strides = {b - a for a, b in pairwise(ranks)}
    if len(strides) == 1 and len(ranks) > 2:  # noqa: PLR2004 - two ranks are a list
        (stride,) = strides
        return f"{ranks[0]}-{ranks[-1]}" + (f":{stride}" if stride != 1 else "")
    return ",".join(map(str, ranks))


def _word(group: dist.ProcessGroup | None) -> str:
    if group is None:
        return "world"
    return _GROUP_WORDS.get(group.group_desc, group.group_desc or "group")
