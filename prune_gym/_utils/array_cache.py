"""Arrays in the user's cache folder: what takes seconds to make and is the same every time."""

import io
from collections.abc import Mapping, Sequence
from zipfile import BadZipFile

import numpy as np

from prune_gym._utils.paths import cache_home, write_atomically


def read_arrays(file: str, names: Sequence[str]) -> dict[str, np.ndarray] | None:
    """Return the named arrays of a cached file, or None where it is absent or damaged."""
    try:
        with np.load(cache_home() / file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None  # made anew, and the cache replaced


def write_arrays(file: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays for the next start, where the cache can be written to."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    try:
        write_atomically(cache_home() / file, buffer.getvalue())
    except OSError:
        return  # a read-only cache costs time at the next start and nothing else
