"""Make embedded detection data: scikit-learn's real hand-written digits, pasted on scenes.

Every 128x128 RGB image shows one to five digits, scaled, sheared and in any color, on a
background of blended colors, stripes, bars that look like strokes, and pixel noise. A digit's
writer sample (an 8x8 original) belongs to one split only.
"""

import numpy as np

from prune_gym.datasets.detection import DetectionData, DetectionSplit
from prune_gym.datasets.embedded import Digits, Splits, build_splits, cached_or_built

SEED = 20211003
SIDE = 128
SIZES = {"train": 2_500, "search": 500, "test": 500}
MOST_DIGITS, TRIES = 5, 8
CELL = (2.5, 6.5)  # pixels that a cell of the 8x8 original covers
FIELDS = ("images", "boxes", "classes", "image_ids")
CACHE = "digit-scenes-v1.npz"
# Of all pixels and boxes: an id means the same task on every machine.
SHA256 = "b6e70136b3b93f3dcd500dae9eb4ed70d1202fbe0576384736dbfc5df561f668"


def load() -> DetectionData:
    """Return the scenes, from the user's cache or built in seconds.

    Raises:
        UserError: what was built is not what the ids were made with, so results would not be
            comparable.
    """
    splits = cached_or_built("scenes", CACHE, FIELDS, SHA256, build)
    train, search, test = (DetectionSplit(*splits[name]) for name in SIZES)
    names = tuple("0123456789")
    return DetectionData(
        "digit-scenes", names, train, search, test, flip=False, permute_colors=True
    )


def build() -> Splits:
    """Make all splits from the fixed seed: name -> images, boxes, classes, image_ids."""
    return build_splits(SEED, _draw)


def _draw(split: str, digits: Digits, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    originals, labels = digits.images[digits.members], digits.labels[digits.members]
    images, boxes, classes, image_ids = [], [], [], []
    for index in range(SIZES[split]):
        canvas = _background(rng)
        placed: list[np.ndarray] = []
        for _ in range(int(rng.integers(1, MOST_DIGITS + 1))):
            chosen = int(rng.integers(len(originals)))
            box = _paste(canvas, originals[chosen], placed, rng)
            if box is not None:
                placed.append(box)
                classes.append(labels[chosen])
                image_ids.append(index)
        boxes += placed
        canvas += 0.1 * (rng.random(canvas.shape) - 0.5)
        images.append(np.floor(255 * np.clip(canvas, 0, 1) + 0.5).astype(np.uint8))
    arrays = (np.stack(images), np.array(boxes, dtype=np.float32))
    return *arrays, np.array(classes, dtype=np.int64), np.array(image_ids, dtype=np.int64)


def _background(rng: np.random.Generator) -> np.ndarray:
    """Return a scene without digits, float64 (3, 128, 128) around [0.1, 0.9]."""
    knots = 0.2 + 0.6 * rng.random((3, 1, 1)) + 0.3 * (rng.random((3, 5, 5)) - 0.5)
    at = np.arange(SIDE) * 4 / SIDE
    whole, part = at.astype(np.intp), at - np.floor(at)
    rows = knots[:, whole] * (1 - part)[:, None] + knots[:, whole + 1] * part[:, None]
    canvas = rows[:, :, whole] * (1 - part) + rows[:, :, whole + 1] * part
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    slope = 2 * rng.random(2) - 1
    wave = (slope[0] * y + slope[1] * x) / (4 + 12 * rng.random())
    stripes = 2 * np.abs(wave - np.floor(wave) - 0.5)
    canvas += 0.2 * rng.random((3, 1, 1)) * (stripes - 0.5)
    for _ in range(int(rng.integers(4))):
        _bar(canvas, rng)
    return canvas


def _bar(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Draw an upright or flat bar: clutter that looks like a stroke."""
    long, thin = int(rng.integers(15, 60)), int(rng.integers(2, 6))
    height, width = (long, thin) if rng.random() < 0.5 else (thin, long)
    top, left = int(rng.integers(SIDE - height)), int(rng.integers(SIDE - width))
    area = canvas[:, top : top + height, left : left + width]
    area += 0.6 * (rng.random((3, 1, 1)) - area)


def _paste(
    canvas: np.ndarray, digit: np.ndarray, placed: list[np.ndarray], rng: np.random.Generator
) -> np.ndarray | None:
    """Draw a digit where it covers no other; return its box, or None where there is no room."""
    ink = _enlarged(digit, rng)
    rows, columns = (np.flatnonzero((ink > 0.3).any(axis=axis)) for axis in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = ink.shape
    for _ in range(TRIES):
        top, left = (int(rng.integers(SIDE - each + 1)) for each in ink.shape)
        box = np.array([left, top, left + width, top + height])
        if not any(_touch(box, other) for other in placed):
            area = canvas[:, top : top + height, left : left + width]
            mean = area.mean(axis=(1, 2), keepdims=True)
            step = 0.4 + 0.3 * rng.random((3, 1, 1))  # the ink stands off its background
            color = np.where(mean < 0.5, mean + step, mean - step)
            area += ink * (color - area)
            return box
    return None


def _touch(left: np.ndarray, right: np.ndarray) -> bool:
    shared = np.minimum(left[2:], right[2:]) - np.maximum(left[:2], right[:2])
    return bool((shared > 0).all())


def _enlarged(digit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an 8x8 digit enlarged and sheared at random, linearly interpolated."""
    cell = CELL[0] + (CELL[1] - CELL[0]) * rng.random()
    shear, squeeze = 0.4 * (rng.random() - 0.5), 0.8 + 0.4 * rng.random()
    side = int(10 * cell)
    y, x = (np.mgrid[0:side, 0:side] + 0.5 - side / 2) / cell
    rows, columns = np.clip(y + 4.5, 0, 9), np.clip((x + shear * y) * squeeze + 4.5, 0, 9)
    padded = np.pad(digit, ((1, 2), (1, 2)))
    i, j = rows.astype(np.intp), columns.astype(np.intp)
    u, v = rows - i, columns - j
    upper = (1 - v) * padded[i, j] + v * padded[i, j + 1]
    return (1 - u) * upper + u * ((1 - v) * padded[i + 1, j] + v * padded[i + 1, j + 1])
