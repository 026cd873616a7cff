"""Read CIFAR-10 (Krizhevsky 2009) in its official binary layout, or in torchvision's.

Each of the six binary files holds 10,000 records of 1 label byte and 3,072 pixel bytes
(channel-major). The "python version" has the same images in the same order.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pooch

from prune_gym._utils.paths import cache_home, data_home, writable_home
from prune_gym.datasets import cifar10_python
from prune_gym.datasets.classification import Data, Split
from prune_gym.errors import MissingFileError, UserError

FOLDER = "cifar-10-batches-bin"
ARCHIVE = "cifar-10-binary.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
MD5 = "md5:c32a1d4ab5d03f1284b67883e8d87530"
RECORD, RECORDS = 3_073, 10_000
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILE = "test_batch.bin"
SEARCH_PER_CLASS = 500


def load() -> Data:
    """Read CIFAR-10 from the data home, else download it there (162 MB).

    The search split is chosen by content: per class the 500 training images with the smallest
    SHA-1 of their 3,072 bytes. Training and search images come in the order of their SHA-1, so
    nothing depends on the order of the files.

    Raises:
        MissingFileError: not on disk and no network; names the folder and the offline way.
        UserError: a file is not what the official archive holds.
    """
    folder, train_files, test_file, read = _find_or_download()
    parts = [read(folder / name) for name in train_files]
    images = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    if not np.array_equal(np.bincount(labels, minlength=10), np.full(10, 5_000)):
        raise UserError(
            f"{folder}: expected 5,000 training images of each of 10 classes, got "
            f"{np.bincount(labels).tolist()}; the files are damaged: fetch them again from {URL}"
        )
    train, search = _split(images, labels)
    return Data(
        name="cifar10",
        num_classes=10,
        train=Split(images[train], labels[train]),
        search=Split(images[search], labels[search]),
        test=Split(*read(folder / test_file)),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        flip=True,
    )


def _split(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the training and of the search images, both in order of SHA-1."""
    digests = [hashlib.sha1(image.data).digest() for image in images.reshape(len(images), -1)]
    order = np.array(sorted(range(len(digests)), key=digests.__getitem__))
    rank = np.zeros(len(order), dtype=int)
    for label in range(10):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    held_out = rank[order] < SEARCH_PER_CLASS
    return order[~held_out], order[held_out]


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    raw = np.fromfile(path, dtype=np.uint8)
    if raw.size != RECORD * RECORDS or raw[::RECORD].max() > 9:
        raise UserError(
            f"{path}: expected {RECORD * RECORDS:,} bytes ({RECORDS:,} records of one label in "
            f"0..9 and 3,072 pixels), got {raw.size:,} bytes; delete it and fetch {URL} again"
        )
    records = raw.reshape(RECORDS, RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32).copy(), records[:, 0].astype(np.int64)


Layout = tuple[Path, tuple[str, ...], str, Callable[[Path], tuple[np.ndarray, np.ndarray]]]


def _find_or_download() -> Layout:
    """Return the folder, its training files and its test file, and what reads one of them."""
    home = data_home()
    python = cifar10_python.TRAIN_FILES, cifar10_python.TEST_FILE, cifar10_python.read
    for base in (home, cache_home()):
        for folder, (train, test, read) in (
            (base / FOLDER, (TRAIN_FILES, TEST_FILE, _read)),
            (base / cifar10_python.FOLDER, python),
        ):
            if all((folder / name).is_file() for name in (*train, test)):
                return folder, train, test, read
    target = writable_home()
    try:
        pooch.retrieve(
            URL, MD5, ARCHIVE, target, processor=pooch.Untar(extract_dir="."), progressbar=True
        )
    except Exception as error:  # every way a download fails ends in the same advice
        raise MissingFileError(
            f"CIFAR-10 is not in {home / FOLDER} and could not be downloaded "
            f"({type(error).__name__}). Offline: get {URL} (162 MB, MD5 {MD5[4:]}) on another "
            "machine and unpack it so that "
            f"{home / FOLDER / TEST_FILE} exists, or set PRUNE_GYM_HOME to the folder that holds "
            f"{FOLDER}/ (or torchvision's {cifar10_python.FOLDER}/)."
        ) from None
    return target / FOLDER, TRAIN_FILES, TEST_FILE, _read
