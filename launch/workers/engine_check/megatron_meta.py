"""Makes Megatron-Core take tensors that have shapes and no values; for good, in this process.

On top of the shim that lets it run without a GPU. Each stand-in says what it stands for.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
import torch.distributed as dist

from launch.workers.engine_check.recorder import Done, Recorder, is_meta
from launch.workers.megatron_core import shim

_FACTORIES: Final = (
    *("arange", "empty", "empty_like", "full", "ones", "tensor", "zeros", "zeros_like"),
)


def install() -> Recorder:
    """Prepare torch, import Megatron, prepare it; returns what records its collectives."""
    shim.install()
    recorder = Recorder()
    recorder.install()
    from launch.workers.megatron_core import patches

    patches.apply()
    _stand_in_for_torch()
    _stand_in_for_megatron()
    return recorder


# Any: these stand in front of functions of every signature.


def _stand_in_for_torch() -> None:
    torch.cuda.current_device = lambda: torch.device("meta")  # type: ignore[assignment,return-value]
    for name in _FACTORIES:
        _replace(torch, name, _on_meta)
    for name in ("Stream", "Event"):
        setattr(torch.cuda, name, _Nothing)
    # Asked for the parameter groups of all ranks, to align them: those of this rank.
    dist.all_gather_object = _everyone_says_the_same  # type: ignore[assignment]
    _replace(torch.Tensor, "item", _one_without_value)
    _replace(torch.Tensor, "type", _spoken_as_cuda)


def _stand_in_for_megatron() -> None:
    from megatron.core.distributed import param_and_grad_buffer
    from megatron.core.optimizer import clip_grads
    from megatron.core.transformer import multi_latent_attention

    # It asks the group's backend, which knows no such device; the calls inside are recorded.
    param_and_grad_buffer._coalescing_manager = _coalesced  # noqa: SLF001
    # The norm of gradients on this rank is read as a number: one without a value.
    clip_grads.l2_norm_impl = _norm_without_value
    # Asked whether a layer is one of Transformer Engine's, which does not exist here: it is not.
    if not isinstance(multi_latent_attention.TELinear, type):
        multi_latent_attention.TELinear = type("TELinear", (), {})


class _Nothing:
    """A stream or event of a GPU that is not there."""

    def __init__(self, *_: object, **__: object) -> None:
        pass


def _everyone_says_the_same(found: list[Any], own: Any, **_: object) -> None:  # noqa: ANN401
    found[:] = [own] * len(found)


def _on_meta(real: Callable[..., Any]) -> Callable[..., Any]:
    """What Megatron asks to be made on a GPU by name has no values either."""

    @functools.wraps(real)
    def made(*args: Any, **said: Any) -> Any:  # noqa: ANN401
        if str(said.get("device", "")).startswith("cuda"):
            said["device"] = "meta"
        return real(*args, **said)

    return made


def _norm_without_value(*_: object) -> tuple[torch.Tensor, None]:
    return torch.empty(1, dtype=torch.float32, device="meta"), None


@contextmanager
def _coalesced(*_: object, **__: object) -> Iterator[Done]:
    yield Done()


def _one_without_value(real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)
    def item(tensor: torch.Tensor) -> Any:  # noqa: ANN401
        return 1.0 if is_meta(tensor) else real(tensor)

    return item


def _spoken_as_cuda(real: Callable[..., Any]) -> Callable[..., Any]:
    """Answer `torch.cuda.FloatTensor`: gradient clipping refuses other names."""

    @functools.wraps(real)
    def spoken(tensor: torch.Tensor, *args: Any, **said: Any) -> Any:  # noqa: ANN401
        said_by_torch = real(tensor, *args, **said)
        if isinstance(said_by_torch, str) and is_meta(tensor):
            return said_by_torch.replace("torch.meta.", "torch.cuda.", 1)
        return said_by_torch

    return spoken


def _replace(owner: Any, name: str, around: Callable[..., Any]) -> None:  # noqa: ANN401
    setattr(owner, name, around(getattr(owner, name)))
