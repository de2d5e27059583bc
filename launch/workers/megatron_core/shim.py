"""Lets megatron-core run without a GPU: its CUDA calls answer for the CPU.

megatron-core 0.16.1 trains over gloo unmodified but for calls that name CUDA outright: random
states, `device="cuda"` literals, the current device, and two checks of a tensor's type as text.
Each is replaced by what it means on a CPU. Install before megatron is imported, and only when
torch has no GPU; on a GPU nothing here runs.
"""

import functools
import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
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


def install() -> None:
    """Replace what megatron-core asks of CUDA; for good, in this process."""
    _replace(torch.cuda, _device_calls())
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


def _replace(owner: object, replacements: Mapping[str, object]) -> None:
    for name, replacement in replacements.items():
        setattr(owner, name, replacement)
