"""How much memory this rank has held at most: on its GPU, or as a process without one."""

import resource

import torch

_KIB = 1024  # getrusage counts in KiB on Linux


def peak_bytes() -> int:
    """Bytes at the peak since the process began."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
