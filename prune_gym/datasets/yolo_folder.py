"""Detection data of one's own: a folder in the YOLO format.

    FOLDER/images/train/NAME.jpg     FOLDER/labels/train/NAME.txt
    FOLDER/images/val/...            FOLDER/labels/val/...
    FOLDER/classes.txt               one class name a line (or any one file *.names)

A label file has one object a line: class, and centre x, centre y, width and height as shares of
the image. An image without objects has an empty label file or none. ``val`` becomes the test split;
the search split is ``images/search`` where it exists, else held out of ``train``.
"""

import hashlib
from pathlib import Path

import numpy as np

from prune_gym._utils.paths import cache_home, data_home
from prune_gym.datasets.detection import DetectionData, DetectionSplit
from prune_gym.errors import MissingFileError, UserError

COCO = "coco-yolo"
COCO_SIZE = 320  # Yolo-Fastest's input
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")
MOST_SEARCH = 1_000


def load_coco() -> DetectionData:
    """Return the COCO images in the data home (``coco-yolo/``), 320x320 pixels.

    Raises:
        MissingFileError: they are not there; names the folder.
        UserError: a file is damaged.
    """
    for home in (data_home(), cache_home()):
        if (home / COCO).is_dir():
            return load_folder(home / COCO, (COCO_SIZE, COCO_SIZE))
    raise MissingFileError(
        f"{data_home() / COCO} does not exist; it holds COCO images in the YOLO format (images/, "
        "labels/, coco.names) and yolo-fastest-1.1.cfg and .weights: put it there, or set "
        "PRUNE_GYM_HOME to the folder that holds it"
    )


def load_folder(folder: str | Path, size: tuple[int, int], flip: bool = True) -> DetectionData:
    """Read a YOLO folder; every image is resized to ``size`` (height, width in pixels).

    Without ``images/search``, half of the training images, at most 1,000, are the search split:
    those whose file names have the smallest SHA-1.

    Raises:
        MissingFileError: a folder or the class names are missing.
        UserError: an image or a label cannot be read; names the file and the line.
    """
    folder = Path(folder)
    names = _class_names(folder)
    train, test = (_read_split(folder, part, size, len(names)) for part in ("train", "val"))
    if (folder / "images" / "search").is_dir():
        search = _read_split(folder, "search", size, len(names))
    else:
        files = _image_files(folder, "train")
        order = np.array(
            sorted(range(len(files)), key=lambda i: hashlib.sha1(files[i].name.encode()).digest())
        )
        count = min(len(files) // 2, MOST_SEARCH)
        search, train = train.select(np.sort(order[:count])), train.select(np.sort(order[count:]))
    return DetectionData(folder.name, names, train, search, test, flip)


def _class_names(folder: Path) -> tuple[str, ...]:
    found = sorted(folder.glob("*.names")) or sorted(folder.glob("classes.txt"))
    if len(found) != 1:
        raise MissingFileError(
            f"{folder}: expected one file classes.txt or *.names with a class name a line, found "
            f"{[path.name for path in found] or 'none'}"
        )
    return tuple(line.strip() for line in found[0].read_text().splitlines() if line.strip())


def _image_files(folder: Path, part: str) -> list[Path]:
    images = folder / "images" / part
    files = sorted(p for p in images.glob("*") if p.suffix.lower() in ENDINGS)
    if not files:
        raise MissingFileError(
            f"{images}: no images there ({', '.join(ENDINGS)}); a YOLO folder has images/train and "
            "images/val, with labels/train and labels/val beside them"
        )
    return files


def _read_split(folder: Path, part: str, size: tuple[int, int], classes: int) -> DetectionSplit:
    files = _image_files(folder, part)
    labels = [folder / "labels" / part / f"{path.stem}.txt" for path in files]
    if not any(path.is_file() for path in labels):
        raise MissingFileError(
            f"{folder / 'labels' / part}: none of the {len(files)} images of {part} has a label "
            f"file there, {labels[0].name} for example"
        )
    objects = [_read_labels(path, classes) for path in labels]
    every = np.concatenate(objects)
    return DetectionSplit(
        images=np.stack([_read_image(path, size) for path in files]),
        boxes=_corners(every[:, 1:], size),
        classes=every[:, 0].astype(np.int64),
        image_ids=np.repeat(np.arange(len(files)), [len(each) for each in objects]),
    )


def _corners(shares: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Turn centre, width and height (shares of the image) into pixels left, top, right, bottom."""
    half = shares[:, 2:] / 2
    corners = np.concatenate([shares[:, :2] - half, shares[:, :2] + half], axis=1)
    return (corners * np.tile(size[::-1], 2)).astype(np.float32)


def _read_image(path: Path, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
    except OSError as error:
        raise UserError(f"{path}: not an image that can be read ({error})") from error
    return np.asarray(resized).transpose(2, 0, 1)


def _read_labels(path: Path, classes: int) -> np.ndarray:
    """Return the objects of a label file, ``float64 (objects, 5)``; none where there is no file."""
    lines = path.read_text().splitlines() if path.is_file() else []
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
            f"{where}: expected 5 numbers (class, centre x, centre y, width, height), got {line!r}"
        )
    if values[0] not in range(classes):
        raise UserError(f"{where}: class {values[0]:g} is not one of the {classes} class names")
    if not all(0 <= value <= 1 for value in values[1:]) or min(values[3:]) == 0:
        raise UserError(
            f"{where}: a box is given in shares of the image, from 0 to 1, and has an area; got "
            f"{values[1:]}"
        )
    return values
