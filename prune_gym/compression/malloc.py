"""Giving freed memory back to the system."""

import ctypes
from collections.abc import Callable
from functools import cache


def release_memory() -> None:
    """Return what the allocator holds and nobody uses, where the C library can (glibc).

    Every candidate has other sizes, so that freed blocks do not fit the next one and pile up:
    over a megabyte for each of hundreds of strategies.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
