"""Divide scikit-learn's digits among splits, and keep the data made of them in a cache."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from prune_gym._utils.array_cache import read_arrays, write_arrays
from prune_gym.errors import UserError

ORIGINALS = {"train": 0.6, "search": 0.2, "test": 0.2}  # shares of the 8x8 originals

Splits = dict[str, tuple[np.ndarray, ...]]


def divide(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return which of ``count`` originals belong to each split: no two splits share one."""
    order = rng.permutation(count)
    ends = np.cumsum([round(share * count) for share in ORIGINALS.values()])
    return dict(zip(ORIGINALS, np.split(order, ends[:-1]), strict=True))


def cached_or_built(
    what: str, file: str, fields: Sequence[str], sha256: str, build: Callable[[], Splits]
) -> Splits:
    """Return the splits, name -> one array per field, from the user's cache, or build them.

    Raises:
        UserError: the SHA-256 of what was built is not the expected one; ``what`` says what it is.
    """
    names = [f"{split}_{field}" for split in ORIGINALS for field in fields]
    arrays = read_arrays(file, names)
    if arrays is not None:
        splits = {s: tuple(arrays[f"{s}_{field}"] for field in fields) for s in ORIGINALS}
        if _digest(splits) == sha256:
            return splits
    splits = build()
    if (found := _digest(splits)) != sha256:
        raise UserError(
            f"the {what} built here have SHA-256 {found}, expected {sha256}; check the versions of "
            "scikit-learn and numpy"
        )
    built = [array for name in ORIGINALS for array in splits[name]]
    write_arrays(file, dict(zip(names, built, strict=True)))
    return splits


def _digest(splits: Splits) -> str:
    digest = hashlib.sha256()
    for arrays in splits.values():
        for array in arrays:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
