"""Arrays in the user's cache folder: they take seconds to make and are the same every time."""

import io
import zlib
from collections.abc import Mapping, Sequence
from tokenize import TokenError
from typing import Any, cast
from zipfile import BadZipFile

import numpy as np

from prune_gym._utils.paths import cache_home, write_atomically
from prune_gym.errors import FileAccessError

# What NumPy and zipfile raise where bytes are missing or flipped, found by flipping them.
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    BadZipFile,
    NotImplementedError,
    SyntaxError,
    TokenError,
    OverflowError,
    MemoryError,
    zlib.error,
)


def read_arrays(file: str, names: Sequence[str]) -> dict[str, np.ndarray] | None:
    """Return the named arrays of a cached file, or None where it is absent or damaged."""
    try:
        with np.load(cache_home() / file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except DAMAGE:
        return None  # made again, and the cache is replaced


def write_arrays(file: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays for the next start, where the cache can be written to."""
    buffer = io.BytesIO()
    np.savez(buffer, **cast(dict[str, Any], arrays))
    try:
        write_atomically(cache_home() / file, buffer.getvalue())
    except FileAccessError:
        return  # a read-only cache costs time at the next start and nothing else
