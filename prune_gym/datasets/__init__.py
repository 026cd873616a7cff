"""Data sets by name: "digits" is built offline, "cifar10" is read or downloaded."""

from functools import lru_cache

from prune_gym.datasets.data import Data, Split
from prune_gym.errors import unknown

__all__ = ["Data", "Split", "load"]


@lru_cache(maxsize=4)
def load(name: str) -> Data:
    """Return a data set by name; the arrays are shared and read-only.

    Raises:
        ValueError: no such data set.
        FileNotFoundError: the data are neither on disk nor to be downloaded.
    """
    from prune_gym.datasets import cifar10, digits

    loaders = {"digits": digits.load, "cifar10": cifar10.load}
    if name not in loaders:
        raise ValueError(unknown("data set", name, loaders))
    return loaders[name]()
