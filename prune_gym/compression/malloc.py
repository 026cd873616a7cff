"""Return freed memory to the operating system."""

import ctypes
from collections.abc import Callable
from functools import cache


def release_memory() -> None:
    """Return the unused memory of the allocator to the system, where the C library can (glibc).

    Every candidate has different sizes, so freed blocks do not fit the next candidate and pile up:
    more than a megabyte for each of hundreds of strategies.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
