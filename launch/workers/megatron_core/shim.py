"""Lets megatron-core run without a GPU: its CUDA calls answer for the CPU.

megatron-core 0.16.1 trains over gloo unmodified but for calls that name CUDA outright: random
states, `device="cuda"` literals, the current device, the streams on which it moves counts of
tokens to the host, and two checks of a tensor's type as text; and but for two collectives on
tensors of unequal lengths, which gloo does not have (experts cut by etp).
Each is replaced by what it means on a CPU. Install before megatron is imported, and only when
torch has no GPU; on a GPU nothing here runs.
"""

import functools
import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
import torch.distributed as dist
from torch.utils._device import _device_constructors

_CPU: Final = torch.device("cpu")
_FACTORIES: Final = (
    "arange",
    "empty",
    "empty_like",
    "full",
    "ones",
    "ones_like",
    "rand",
    "randn",
    "tensor",
    "zeros",
    "zeros_like",
)


@functools.cache
def install() -> None:
    """Replace what megatron-core asks of CUDA; once and for good, in this process."""
    _replace(torch.cuda, _device_calls())
    _replace(torch.cuda, _stream_calls())
    _replace(torch.cuda, _random_state_calls())
    _replace(torch.cuda.random, {"get_rng_state": lambda *_, **__: torch.get_rng_state()})
    # This cached list must hold the original factories, or `with torch.device("meta")` misses
    # the wrapped ones and puts some parameters on the CPU.
    _device_constructors()
    _replace(torch, {name: _on_cpu(getattr(torch, name)) for name in _FACTORIES})
    as_it_is = {"cuda": lambda self, *_, **__: self}
    _replace(torch.nn.Module, as_it_is)
    _replace(torch.Tensor, {**as_it_is, "type": _spoken_as_cuda(torch.Tensor.type)})
    # Megatron compiles small functions when it is imported; what a CPU runs of them runs as well
    # uncompiled, without a compiler, and the import is a second shorter.
    _replace(torch, {"compile": _uncompiled})
    _replace(dist, {"all_gather": _of_any_lengths(dist.all_gather)})
    _replace(dist, {"reduce_scatter": _into_any_lengths(dist.reduce_scatter)})
    _expect_no_gpu_libraries()


def _expect_no_gpu_libraries() -> None:
    """Keep a rank's log for what is news: without a GPU these warnings are not."""
    warnings.filterwarnings("ignore", module=r"megatron\.core\.")
    warnings.filterwarnings("ignore", module=r"torch\.distributed\.(c10d_logger|checkpoint)")
    # It warns at each dropout: on a CPU the "GPU" random state is the CPU's, and does change.
    logging.getLogger("megatron.core.tensor_parallel.random").setLevel(logging.ERROR)


class _AnyDevicesGenerator:
    """Stands for `torch.cuda.default_generators`: whatever the device, the CPU's generator."""

    def __getitem__(self, device: object) -> torch.Generator:
        return torch.default_generator


def _device_calls() -> dict[str, object]:
    return {
        "current_device": lambda: _CPU,
        "set_device": lambda *_, **__: None,
        "synchronize": lambda *_, **__: None,
        "empty_cache": lambda *_, **__: None,
    }


class _NoStream:
    """Stands for a CUDA stream, its events and its context: on a CPU all is done in order."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def wait_stream(self, _: object) -> None: ...

    def synchronize(self) -> None: ...

    def record_event(self, _: object = None) -> "_NoStream":
        return self


def _stream_calls() -> dict[str, object]:
    return {"Stream": _NoStream, "current_stream": _NoStream, "stream": _NoStream}


def _random_state_calls() -> dict[str, object]:
    return {
        "default_generators": _AnyDevicesGenerator(),
        "manual_seed": torch.manual_seed,
        "get_rng_state": lambda *_, **__: torch.get_rng_state(),
        "set_rng_state": lambda state, *_, **__: torch.set_rng_state(state),
        "_lazy_call": lambda call, **_: call(),
    }


# Any: these stand in front of functions of every signature.


def _uncompiled(function: Any = None, **options: Any) -> Any:  # noqa: ANN401
    return function if function is not None else functools.partial(_uncompiled, **options)


def _on_cpu(factory: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(factory)
    def made_on_cpu(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if "device" in kwargs and _names_cuda(kwargs["device"]):
            kwargs["device"] = _CPU
        kwargs.pop("pin_memory", None)
        return factory(*args, **kwargs)

    return made_on_cpu


def _names_cuda(device: object) -> bool:
    if isinstance(device, torch.device):
        return device.type == "cuda"
    return isinstance(device, str) and device.startswith("cuda")


def _spoken_as_cuda(tensor_type: Callable[..., Any]) -> Callable[..., Any]:
    """Answer `torch.cuda.FloatTensor`: gradient clipping refuses other names."""

    @functools.wraps(tensor_type)
    def spoken(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        answer = tensor_type(self, *args, **kwargs)
        if isinstance(answer, str) and self.device.type == "cpu":
            return answer.replace("torch.", "torch.cuda.", 1)
        return answer

    return spoken


def _of_any_lengths(all_gather: Callable[..., Any]) -> Callable[..., Any]:
    """Gather tensors whose first dims differ, as NCCL does: padded to the longest."""

    @functools.wraps(all_gather)
    def gathered(parts: list[torch.Tensor], own: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        lengths = [part.size(0) if part.dim() else 0 for part in parts]
        longest = max(lengths)
        if min(lengths) == longest:
            return all_gather(parts, own, *args, **kwargs)
        padded = own.new_zeros((longest, *own.shape[1:]))
        padded[: own.size(0)] = own
        wide = [torch.empty_like(padded) for _ in parts]
        all_gather(wide, padded, *args, **kwargs)
        for part, length, whole in zip(parts, lengths, wide, strict=True):
            part.copy_(whole[:length])
        return None

    return gathered


def _into_any_lengths(reduce_scatter: Callable[..., Any]) -> Callable[..., Any]:
    """Scatter sums whose first dims differ, as NCCL does: every rank sums all and keeps its own."""

    @functools.wraps(reduce_scatter)
    def scattered(own: torch.Tensor, parts: list[torch.Tensor], **kwargs: Any) -> Any:  # noqa: ANN401
        if len({part.shape for part in parts}) == 1:
            return reduce_scatter(own, parts, **kwargs)
        total = torch.cat(parts)
        dist.all_reduce(total, **kwargs)
        sums = torch.split(total, [part.size(0) for part in parts])
        own.copy_(sums[dist.get_rank(kwargs.get("group"))])
        return None

    return scattered


def _replace(owner: object, replacements: Mapping[str, object]) -> None:
    for name, replacement in replacements.items():
        setattr(owner, name, replacement)
