"""Read detection data from a folder in the YOLO format.

    FOLDER/images/train/NAME.jpg     FOLDER/labels/train/NAME.txt
    FOLDER/images/val/...            FOLDER/labels/val/...
    FOLDER/classes.txt               one class name a line (or any one file *.names)

A label file has one object a line: class, and center x, center y, width and height as shares of
the image. An image without objects has an empty label file or none. Images may lie in sub-folders,
with their labels in the same ones. ``val`` becomes the test split; the search split is
``images/search`` where it exists, else held out of ``train``.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from prune_gym._utils.paths import cache_home, data_home
from prune_gym.datasets.detection import DetectionData, DetectionSplit
from prune_gym.datasets.images import SUFFIXES, check_memory, image_files, read_rgb
from prune_gym.datasets.stratify import hold_out
from prune_gym.errors import MissingFileError, UserError

COCO = "coco-yolo"
COCO_SIZE = 320  # Yolo-Fastest's input
MAX_SEARCH = 1_000  # images
TOLERANCE = 1e-3  # by which rounding may take a box out of its image


def load_coco() -> DetectionData:
    """Return the COCO images in the data home (``coco-yolo/``), 320x320 pixels.

    Raises:
        MissingFileError: they are not there; names the folder.
        UserError: a file is damaged.
    """
    for home in (data_home(), cache_home()):
        if (home / COCO).is_dir():
            return _load(home / COCO, (COCO_SIZE, COCO_SIZE), True, _any_half)
    raise MissingFileError(
        f"{data_home() / COCO} does not exist; it holds COCO images in the YOLO format (images/, "
        "labels/, coco.names) and yolo-fastest-1.1.cfg and .weights: put it there, or set "
        "PRUNE_GYM_HOME to the folder that holds it"
    )


def load_folder(folder: str | Path, size: tuple[int, int], flip: bool = True) -> DetectionData:
    """Read a YOLO folder; every image is resized to ``size`` (height, width in pixels).

    Without ``images/search``, half of the training images, at most 1,000, are the search split. An
    image counts to the rarest class in it, and half of every class's images are held out: those
    whose file names have the smallest SHA-1.

    Raises:
        MissingFileError: a folder or the class names are missing.
        UserError: an image or a label cannot be read (the message names the file and the line),
            or no object is left for the search or the test split.
    """
    if not _is_size(size):
        raise UserError(f"size: expected (height, width) in pixels, got {size!r}")
    return _load(Path(folder), (int(size[0]), int(size[1])), flip, _half_of_every_class)


def _is_size(size: object) -> bool:
    return (
        isinstance(size, tuple | list)
        and len(size) == 2
        and all(isinstance(side, int) and side > 0 for side in size)
    )


Halve = Callable[[DetectionSplit, Sequence[str]], tuple[np.ndarray, np.ndarray]]


def _load(folder: Path, size: tuple[int, int], flip: bool, halve: Halve) -> DetectionData:
    """Read a folder; ``halve`` says which training images to search on where no folder does."""
    names = _class_names(folder)
    train, test = (_read_split(folder, part, size, len(names)) for part in ("train", "val"))
    if (folder / "images" / "search").is_dir():
        search = _read_split(folder, "search", size, len(names))
    else:
        files = [file.as_posix() for file in _image_files(folder, "train")]
        if len(files) < 2:
            raise UserError(
                f"{folder / 'images' / 'train'}: expected at least 2 images, as half of them are "
                f"the search split; got {len(files)}"
            )
        stay, held = halve(train, files)
        search, train = train.select(held), train.select(stay)
    return DetectionData(folder.name, names, train, search, test, flip)


def _any_half(train: DetectionSplit, files: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the images that stay and those held out; the task "coco-yolo" is defined by this."""
    order, count = _by_digest(files), min(len(files) // 2, MAX_SEARCH)
    return np.sort(order[count:]), np.sort(order[:count])


def _half_of_every_class(
    train: DetectionSplit, files: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the images that stay and those held out, half of those of every class."""
    order = _by_digest(files)
    share = min(0.5, MAX_SEARCH / len(files))
    stay, held = hold_out(_rarest_classes(train)[order], (share,))
    return np.sort(order[stay]), np.sort(order[held])


def _by_digest(files: Sequence[str]) -> np.ndarray:
    digests = [hashlib.sha1(file.encode(errors="surrogateescape")).digest() for file in files]
    return np.array(sorted(range(len(files)), key=digests.__getitem__))


def _rarest_classes(split: DetectionSplit) -> np.ndarray:
    """Return the class of every image that the fewest images hold, -1 without an object."""
    pairs = np.unique(np.stack([split.image_ids, split.classes], axis=1), axis=0)
    images = np.bincount(pairs[:, 1])
    rarest = np.full(len(split), -1)
    for image, label in pairs[np.argsort(-images[pairs[:, 1]], kind="stable")]:
        rarest[image] = label  # the rarest comes last
    return rarest


def _class_names(folder: Path) -> tuple[str, ...]:
    found = sorted(folder.glob("*.names")) or sorted(folder.glob("classes.txt"))
    if len(found) != 1:
        raise MissingFileError(
            f"{folder}: expected one file classes.txt or *.names with a class name a line, found "
            f"{[path.name for path in found] or 'none'}"
        )
    raw = found[0].read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # what older programs write
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not names or not all(name.isprintable() for name in names):
        raise UserError(f"{found[0]}: expected text in UTF-8 with a class name a line")
    return names


def _image_files(folder: Path, part: str) -> list[Path]:
    """Return the images of a part, relative to its folder."""
    images = folder / "images" / part
    files = [path.relative_to(images) for path in image_files(images)]
    if not files:
        raise MissingFileError(
            f"{images}: no images there ({', '.join(SUFFIXES)}); a YOLO folder has images/train "
            "and images/val, with labels/train and labels/val beside them"
        )
    return files


def _read_split(folder: Path, part: str, size: tuple[int, int], classes: int) -> DetectionSplit:
    files = _image_files(folder, part)
    check_memory(len(files), size, "take fewer of them, or a smaller size")
    labels = [folder / "labels" / part / path.with_suffix(".txt") for path in files]
    if not any(path.is_file() for path in labels):
        raise MissingFileError(
            f"{folder / 'labels' / part}: none of the {len(files)} images of {part} has a label "
            f"file there, such as {labels[0].name}"
        )
    objects = [_read_labels(path, classes) for path in labels]
    every = np.concatenate(objects)
    images = np.empty((len(files), 3, *size), np.uint8)
    for row, path in zip(images, files, strict=True):
        rgb = read_rgb(folder / "images" / part / path)
        row[:] = np.asarray(rgb.resize(size[::-1], Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    return DetectionSplit(
        images=images,
        boxes=_to_pixels(every[:, 1:], size),
        classes=every[:, 0].astype(np.int64),
        image_ids=np.repeat(np.arange(len(files)), [len(each) for each in objects]),
    )


def _to_pixels(shares: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Turn center, width and height (shares of the image) into pixels left, top, right, bottom."""
    half = shares[:, 2:] / 2
    corners = np.concatenate([shares[:, :2] - half, shares[:, :2] + half], axis=1)
    return (corners * np.tile(size[::-1], 2)).astype(np.float32)


def _read_labels(path: Path, classes: int) -> np.ndarray:
    """Return the objects of a label file, ``float64 (objects, 5)``; none where there is no file."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
    except UnicodeDecodeError:
        raise UserError(f"{path}: expected a text file of numbers in UTF-8") from None
    rows = [
        _object(line, f"{path}:{number}", classes)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


def _object(line: str, where: str, classes: int) -> list[float]:
    try:
        values = [float(part) for part in line.split()]
    except ValueError:
        values = []
    if len(values) != 5:
        raise UserError(
            f"{where}: expected 5 numbers (class, center x, center y, width, height), got {line!r}"
        )
    if values[0] not in range(classes):
        raise UserError(f"{where}: class {values[0]:g} is not one of the {classes} class names")
    label, *shares = values
    clipped = [min(max(share, 0.0), 1.0) for share in shares]
    near = all(abs(a - b) <= TOLERANCE for a, b in zip(shares, clipped, strict=True))
    if not near or min(clipped[2:]) == 0:
        raise UserError(
            f"{where}: a box is given in shares of the image, from 0 to 1, and has an area; got "
            f"{shares}"
        )
    return [label, *clipped]
