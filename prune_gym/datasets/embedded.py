"""Make data of scikit-learn's digits: divide them among splits, keep what is made in a cache."""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from prune_gym._utils.array_cache import read_arrays, write_arrays
from prune_gym.datasets.classification import Data, Split
from prune_gym.errors import UserError

ORIGINALS = {"train": 0.6, "search": 0.2, "test": 0.2}  # shares of the 8x8 originals

Splits = dict[str, tuple[np.ndarray, ...]]


class Digits(NamedTuple):
    """The 8x8 originals, and which of them belong to a split.

    Attributes:
        images: float64 (n, 8, 8) in [0, 1].
        labels: the digits that they show, int64 (n,).
        members: indices of those of the split.
    """

    images: np.ndarray
    labels: np.ndarray
    members: np.ndarray


def build_splits(
    seed: int, draw: Callable[[str, Digits, np.random.Generator], tuple[np.ndarray, ...]]
) -> Splits:
    """Make all splits from a fixed seed: name -> the arrays that ``draw`` returns for it."""
    from sklearn.datasets import load_digits  # takes most of a second; the cache needs none of it

    digits = load_digits()
    images, labels = digits.images / 16.0, digits.target.astype(np.int64)
    rng = np.random.Generator(np.random.PCG64(seed))
    divided = _divide(len(images), rng).items()
    return {name: draw(name, Digits(images, labels, members), rng) for name, members in divided}


def load_images(
    name: str, classes: int, file: str, sha256: str, build: Callable[[], Splits]
) -> Data:
    """Return a data set of images and labels, from the user's cache or built in seconds.

    Raises:
        UserError: what was built is not what the ids were made with, so results would
            not be comparable.
    """
    splits = cached_or_built(name, file, ("images", "labels"), sha256, build)
    return Data(
        name=name,
        num_classes=classes,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        flip=False,
        **{split: Split(*arrays) for split, arrays in splits.items()},
    )


def _divide(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
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
