"""The proof, before each fork, that this process may be forked."""

import sys
from pathlib import Path
from typing import Protocol

_GPU_DEVICES = "/dev/nvidia"


class Cuda(Protocol):
    """What is asked of `torch.cuda`."""

    def is_initialized(self) -> bool:
        """Whether this process has a CUDA context."""


def obstacle(process: Path = Path("/proc/self"), *, cuda: Cuda | None = None) -> str | None:
    """Why this process may not be forked; None when it may.

    A fork copies one thread: what others held locked stays locked in the child for ever. And a CUDA
    driver that was used before a fork works in neither child nor parent as it should.
    """
    num_threads = sum(1 for _ in (process / "task").iterdir())
    if num_threads > 1:
        return f"{num_threads} threads, and only a process of one may be forked (OMP_NUM_THREADS?)"
    asked = cuda or _loaded_cuda()
    if asked is not None and asked.is_initialized():
        return "CUDA is initialised"
    devices = sorted(target for target in _open_files(process) if target.startswith(_GPU_DEVICES))
    if devices:
        return f"{devices[0]} is open"
    return None


def _loaded_cuda() -> Cuda | None:
    torch = sys.modules.get("torch")
    return None if torch is None else torch.cuda


def _open_files(process: Path) -> list[str]:
    targets = []
    for descriptor in (process / "fd").iterdir():
        try:
            targets.append(str(descriptor.readlink()))
        except FileNotFoundError:  # the one that reads the folder
            continue
    return targets
