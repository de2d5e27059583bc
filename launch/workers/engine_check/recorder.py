"""Records the collectives that an engine calls on torch.distributed, without making them.

Installed once, before the engine is imported: engines bind these functions by name when they are
imported. While nothing is being recorded, calls go through to torch.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from launch.workers.engine_check.questions import Recorded

# Any: these stand in front of functions of many signatures, and groups are opaque.
Call = tuple[str, Any, int, int | None]

_COLLECTIVES: Final = {
    "all_reduce": ("all-reduce", "tensor", 0),
    "all_gather_into_tensor": ("all-gather", "input_tensor", 1),
    "reduce_scatter_tensor": ("reduce-scatter", "input", 1),
    "broadcast": ("broadcast", "tensor", 0),
    "all_to_all_single": ("all-to-all", "input", 1),
}
"""torch's function: what it is, and which argument is what this rank hands in."""

_LISTS: Final = {
    "all_gather": ("all-gather", "tensor", 1),
    "reduce_scatter": ("reduce-scatter", "input_list", 1),
}

_MESSAGES: Final = {"isend": ("send", "dst"), "irecv": ("receive", "src")}


class Done:
    """A request that is complete."""

    def wait(self) -> None:
        """Return at once."""


class Recorder:
    """Stands in front of torch.distributed's functions and counts what is called."""

    def __init__(self, *, passes_on: bool = False) -> None:
        self._passes_on = passes_on
        self._calls: Counter[Call] | None = None

    def install(self) -> None:
        """Replace torch's functions; for good, in this process."""
        for name, (kind, argument, place) in {**_COLLECTIVES, **_LISTS}.items():
            self._replace(name, self._collective(getattr(dist, name), kind, argument, place))
        for name, (kind, argument) in _MESSAGES.items():
            message = self._message(getattr(dist, name), kind, argument)
            self._replace(name, message)
            # torch checks a batch's operations against its own names for them.
            setattr(distributed_c10d, name, message)
        self._replace("batch_isend_irecv", self._batch(dist.batch_isend_irecv))

    @contextmanager
    def recording(self) -> Iterator[Callable[[], tuple[Recorded, ...]]]:
        """Record within; yields a function that returns what was recorded."""
        calls: Counter[Call] = Counter()
        self._calls = calls
        try:
            yield lambda: _listed(calls)
        finally:
            self._calls = None

    def _replace(self, name: str, stand_in: Callable[..., Any]) -> None:
        setattr(dist, name, stand_in)

    def _collective(
        self, real: Callable[..., Any], kind: str, argument: str, place: int
    ) -> Callable[..., Any]:
        @functools.wraps(real)
        def noted(*args: Any, **said: Any) -> Any:  # noqa: ANN401
            if self._calls is None:
                return real(*args, **said)
            handed_in = said[argument] if argument in said else args[place]
            self._note(kind, said.get("group") or _group_among(args), handed_in, None)
            if self._passes_on:
                return self._made(real, *args, **said)
            return Done() if said.get("async_op") else None

        return noted

    def _message(self, real: Callable[..., Any], kind: str, argument: str) -> Callable[..., Any]:
        @functools.wraps(real)
        def noted(*args: Any, **said: Any) -> Any:  # noqa: ANN401
            if self._calls is None:
                return real(*args, **said)
            tensor = said["tensor"] if "tensor" in said else args[0]
            peer = said[argument] if argument in said else args[1]
            self._note(kind, said.get("group"), tensor, peer)
            return self._made(real, *args, **said) if self._passes_on else Done()

        return noted

    def _batch(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def noted(operations: list[Any]) -> Any:  # noqa: ANN401
            if self._calls is None:
                return real(operations)
            for one in operations:
                kind, _ = _MESSAGES[one.op.__name__]
                self._note(kind, one.group, one.tensor, one.peer)
            return self._made(real, operations) if self._passes_on else [Done()]

        return noted

    def _made(self, real: Callable[..., Any], *args: Any, **said: Any) -> Any:  # noqa: ANN401
        """Make a call that has been noted; torch makes some by calling others."""
        calls, self._calls = self._calls, None
        try:
            return real(*args, **said)
        finally:
            self._calls = calls

    def _note(self, kind: str, group: Any, handed_in: Any, peer: int | None) -> None:  # noqa: ANN401
        tensors = handed_in if isinstance(handed_in, list) else [handed_in]
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        assert self._calls is not None  # noqa: S101  the callers have checked
        self._calls[(kind, group or dist.group.WORLD, size, peer)] += 1


def _group_among(arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401
    return next((one for one in arguments if isinstance(one, dist.ProcessGroup)), None)


def _listed(calls: Counter[Call]) -> tuple[Recorded, ...]:
    """Return the calls with the ranks of their groups; those of one rank alone are left out."""
    return tuple(
        Recorded(
            kind=kind,
            group=tuple(dist.get_process_group_ranks(group)),
            payload_bytes=size,
            calls=count,
            peer=peer,
        )
        for (kind, group, size, peer), count in calls.items()
        if group.size() > 1
    )


def is_meta(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has a shape and no values."""
    return tensor.device.type == "meta"
