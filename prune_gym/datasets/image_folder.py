"""Read a folder of images, one sub-folder per class: ``root/CLASS/IMAGE``.

A class's own sub-folders belong to it; hidden folders and folders without images are no classes.
Images are read once, scaled so that the shorter side has 8/7 of the wanted size (256 for 224, as
is usual for ImageNet), and cut out at the center. They stay in memory as bytes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from prune_gym.datasets.classification import SPLITS, Data, Split
from prune_gym.datasets.images import (
    SUFFIXES,
    check_memory,
    check_pixels,
    image_files,
    is_hidden,
    read_rgb,
)
from prune_gym.datasets.stratify import first_of_every_class, split_by_class
from prune_gym.errors import MissingFileError, UserError, unknown

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NO_CLASSES = {"train", "val", "valid", "validation", "test"}  # names of splits
Files = Sequence[tuple[Path, int]]


def load(
    root: str | Path,
    *,
    size: int = 224,
    most: Mapping[str, int] | None = None,
    mean: tuple[float, float, float] = MEAN,
    std: tuple[float, float, float] = STD,
    flip: bool = True,
) -> Data:
    """Return the images below ``root``: of every class 80 % to train, 10 % to search, 10 % to test.

    Which image is in which split follows from the SHA-256 of the file names below ``root``, so it
    depends neither on the order nor on the place of the files.

    Args:
        root: the folder that holds a folder of images per class.
        size: height and width of the images, in pixels.
        most: split -> the most images to read of it, of every class the same share; those with
            the smallest SHA-256 are taken.
        mean: per channel, of pixels scaled to [0, 1], that the network was trained with.
        std: per channel, likewise.
        flip: whether a mirrored image is still of its class.

    Raises:
        MissingFileError: no such folder, or no images in it.
        UserError: a file is no image, there are fewer than 30, or they do not fit in memory.
    """
    root, limits = Path(root), _checked(size, most or {})
    names, files = find_images(root)
    labels = np.array([label for _, label in files])
    parts = {}
    for name, positions in zip(SPLITS, split_by_class(labels, names), strict=True):
        chosen = first_of_every_class(labels[positions], limits.get(name, len(positions)))
        parts[name] = [files[position] for position in positions[chosen]]
    return Data(root.name, len(names), **read_splits(parts, size), mean=mean, std=std, flip=flip)


def _checked(size: int, most: Mapping[str, int]) -> Mapping[str, int]:
    if not isinstance(size, int) or size < 1:
        raise UserError(f"size: expected a number of pixels, got {size!r}")
    for name, count in most.items():
        if name not in SPLITS:
            raise UserError(unknown("split in most", name, SPLITS))
        if not isinstance(count, int) or count < 1:
            raise UserError(f"most[{name!r}]: expected a number of images >= 1, got {count!r}")
    return most


def find_images(root: Path) -> tuple[list[str], Files]:
    """Return the classes in alphabetical order, and (file, class) in the order of their SHA-256.

    Raises:
        MissingFileError: no such folder, or no images in it.
        UserError: the folders are splits and no classes.
    """
    if not root.is_dir():
        raise MissingFileError(f"{root}: no such folder; expected one folder of images per class")
    folders = sorted(each for each in root.iterdir() if each.is_dir() and not is_hidden(each.name))
    found = {folder.name: images for folder in folders if (images := image_files(folder))}
    if not found:
        raise MissingFileError(
            f"{root}: no images; expected CLASS/IMAGE below it, with endings {', '.join(SUFFIXES)}"
        )
    if found.keys() <= NO_CLASSES:
        raise UserError(
            f"{root}: expected one folder per class, and found the splits {', '.join(found)}; give "
            f"one of them, such as {root / next(iter(found))}"
        )
    files = [(path, label) for label, images in enumerate(found.values()) for path in images]
    return list(found), sorted(files, key=lambda file: _digest(file[0].relative_to(root)))


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.as_posix().encode(errors="surrogateescape")).digest()


def read_splits(files: Mapping[str, Files], size: int) -> dict[str, Split]:
    """Read the images of every split.

    Raises:
        UserError: a file is no image, or the images do not fit in memory.
    """
    advice = (
        'take fewer of them, such as most={"train": 2000, "search": 2000, "test": 5000}, or a '
        "smaller size"
    )
    check_memory(sum(map(len, files.values())), (size, size), advice)
    return {name: _read(of_split, size) for name, of_split in files.items()}


def _read(files: Files, size: int) -> Split:
    images = np.empty((len(files), 3, size, size), np.uint8)
    for row, (path, _) in zip(images, files, strict=True):
        row[:] = read_image(path, size).transpose(2, 0, 1)
    return Split(images, np.array([label for _, label in files], dtype=np.int64))


def read_image(path: Path, size: int) -> np.ndarray:
    """Return the middle of an image, ``uint8 (size, size, 3)``.

    Raises:
        UserError: the file is no image, damaged, too large or too long for its width.
    """
    rgb = read_rgb(path)
    scale = round(size * 8 / 7) / min(rgb.size)
    width, height = (max(round(scale * side), size) for side in rgb.size)
    check_pixels(width, height, path)
    rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(rgb.crop((left, top, left + size, top + size)))
