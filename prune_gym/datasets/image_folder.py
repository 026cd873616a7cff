"""A folder of images, one sub-folder a class: ``root/CLASS/IMAGE``.

Images are read once, scaled so that the shorter side has 8/7 of the wanted size (256 for 224, as
is usual for ImageNet), and cut out at the centre. They stay in memory as bytes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from prune_gym.datasets.classification import Data, Split
from prune_gym.errors import MissingFileError, UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
SHARE = 0.1  # of the images for search, as much for tests
MOST_BYTES = 4 * 2**30
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
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
    """Return the images below ``root``, 80 % for training, 10 % for search and 10 % for tests.

    Which image is in which split follows from the SHA-256 of its class and file name alone, so it
    depends neither on the order nor on the place of the files.

    Args:
        root: the folder that holds a folder of images per class.
        size: height and width of the images, in pixels.
        most: split -> the most images to read of it; those with the smallest SHA-256 are taken.
        mean: per channel, of pixels scaled to [0, 1], that the network was trained with.
        std: per channel, likewise.
        flip: whether a mirrored image is still of its class.

    Raises:
        MissingFileError: no such folder, or no images in it.
        UserError: a file is no image, a split is empty, or the images do not fit in memory.
    """
    names, files = find_images(Path(root))
    search, test = (round(SHARE * len(files)), round(2 * SHARE * len(files)))
    parts = {"train": files[test:], "search": files[:search], "test": files[search:test]}
    splits = read_splits(parts, size, most or {})
    return Data(Path(root).name, len(names), **splits, mean=mean, std=std, flip=flip)


def find_images(root: Path) -> tuple[list[str], Files]:
    """Return the classes in alphabetical order, and (file, class) in the order of their SHA-256.

    Raises:
        MissingFileError: no such folder, or no images in it.
    """
    if not root.is_dir():
        raise MissingFileError(f"{root}: no such folder; expected one folder of images per class")
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir())
    files = [
        (path, label)
        for label, folder in enumerate(folders)
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise MissingFileError(
            f"{root}: no images; expected CLASS/IMAGE below it, with endings {', '.join(SUFFIXES)}"
        )
    return [folder.name for folder in folders], sorted(files, key=lambda file: _digest(file[0]))


def _digest(path: Path) -> bytes:
    return hashlib.sha256(f"{path.parent.name}/{path.name}".encode()).digest()


def read_splits(files: Mapping[str, Files], size: int, most: Mapping[str, int]) -> dict[str, Split]:
    """Read the first ``most[name]`` images of every split, all where none is given.

    Raises:
        UserError: a file is no image, a split is empty, or the images do not fit in memory.
    """
    chosen = {name: of_split[: most.get(name)] for name, of_split in files.items()}
    empty = [name for name, of_split in chosen.items() if not of_split]
    if empty:
        raise UserError(f"no images for the {' and the '.join(empty)} split: give more images")
    total = sum(len(of_split) for of_split in chosen.values()) * 3 * size * size
    if total > MOST_BYTES:
        raise UserError(
            f"the images take {total / 2**30:.1f} GiB in memory at {size}x{size}, more than "
            f"{MOST_BYTES / 2**30:.0f} GiB; take fewer of them, such as "
            'most={"train": 2000, "search": 2000, "test": 5000}, or a smaller size'
        )
    return {name: _read(of_split, size) for name, of_split in chosen.items()}


def _read(files: Files, size: int) -> Split:
    images = np.empty((len(files), 3, size, size), np.uint8)
    for row, (path, _) in zip(images, files, strict=True):
        row[:] = read_image(path, size).transpose(2, 0, 1)
    return Split(images, np.array([label for _, label in files], dtype=np.int64))


def read_image(path: Path, size: int) -> np.ndarray:
    """Return the middle of an image, ``uint8 (size, size, 3)``.

    Raises:
        UserError: the file is no image, or damaged.
    """
    try:
        with Image.open(path) as image:
            rgb = ImageOps.exif_transpose(image).convert("RGB")
    except OSError as error:
        raise UserError(f"{path} is no whole image ({error})") from None
    scale = round(size * 8 / 7) / min(rgb.size)
    width, height = (max(round(scale * side), size) for side in rgb.size)
    rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(rgb.crop((left, top, left + size, top + size)))
