"""Read the files of CIFAR-10's "python version", as torchvision keeps them.

They are pickles, which may name code to be run. Here they cannot: in the place of NumPy's functions
stand objects that keep bytes, and every other name is refused.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from prune_gym.datasets.checks import check_classes, check_labels
from prune_gym.errors import UserError, first_line

FOLDER = "cifar-10-batches-py"
TRAIN_FILES = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST_FILE = "test_batch"
MAX_BYTES = 64 * 2**20  # of a file; the official ones have half of it
SHAPE = (10_000, 3_072)


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the images ``uint8 (10000, 3, 32, 32)`` and labels of a file.

    Raises:
        UserError: the file is not what the official archive holds, or names anything else.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        with path.open("rb") as file:
            content = _Reader(file, encoding="bytes").load()
        pixels = _Array.pixels_of(_entry(content, "data"))
        labels = check_labels(_entry(content, "labels"), SHAPE[0])
        check_classes(labels, 10, path.name)
    except Exception as error:  # a damaged pickle raises errors of many types
        raise UserError(
            f"{path} is no file of the official {FOLDER} ({first_line(error)}); delete it and "
            "fetch the archive again"
        ) from None
    return pixels.reshape(-1, 3, 32, 32), labels


def _entry(content: Any, key: str) -> Any:
    if not isinstance(content, dict):
        raise ValueError(f"expected a dict, got {type(content).__name__}")
    return content[key if key in content else key.encode()]


class _Array:
    """Stands for a NumPy array, of which it keeps what the file says."""

    __slots__ = ("_state",)

    def __setstate__(self, state: tuple) -> None:
        self._state = state

    @staticmethod
    def pixels_of(array: Any) -> np.ndarray:
        """Return the array, ``uint8 (10000, 3072)``."""
        if not isinstance(array, _Array):
            raise ValueError("its pixels are no array")
        _, shape, dtype, by_columns, raw = array._state
        if shape != SHAPE or by_columns or not isinstance(dtype, _Dtype) or not dtype.is_uint8:
            raise ValueError(f"expected pixels uint8 {SHAPE}, got an array {shape}")
        return np.frombuffer(raw, np.uint8).reshape(SHAPE).copy()


class _Dtype:
    """Stands for the type of an array."""

    __slots__ = ("is_uint8",)

    def __init__(self, name: Any) -> None:
        self.is_uint8 = name in ("u1", b"u1")

    def __setstate__(self, state: tuple) -> None:
        """Ignore byte order and the like; one byte has none."""


class _MakeArray:
    """Stands for the function that NumPy's pickles make arrays with."""

    __slots__ = ()

    def __call__(self, *_: Any) -> _Array:
        return _Array()


class _MakeDtype:
    """Stands for ``numpy.dtype``."""

    __slots__ = ()

    def __call__(self, name: Any, *_: Any) -> _Dtype:
        return _Dtype(name)


class _Reader(pickle.Unpickler):
    """Makes dicts, lists, strings, bytes and numbers, and the stand-ins for arrays; no more."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name of NumPy, and refuse every other name."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _MakeArray()
        if (module, name) == ("numpy", "dtype"):
            return _MakeDtype()
        if (module, name) == ("numpy", "ndarray"):
            return "ndarray"  # an argument that is not looked at
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no such file needs")
