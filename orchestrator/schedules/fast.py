"""numba, where the extra `fast` is installed: the kernels compiled, else as they are."""

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def is_available() -> bool:
    """Return whether numba is installed."""
    return importlib.util.find_spec("numba") is not None


@cache
def compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Return a kernel compiled by numba; the machine code is kept between processes if it can be.

    The first call of a new version compiles for a second or two.
    """
    import numba  # noqa: PLC0415  half a second, and absent without the extra

    fast: Callable[..., Any]
    try:
        fast = numba.njit(cache=True, nogil=True)(kernel)
    except RuntimeError:  # neither the package's folder nor the home can be written
        fast = numba.njit(nogil=True)(kernel)
    return fast
