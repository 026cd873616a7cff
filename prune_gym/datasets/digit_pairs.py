"""Make embedded data on which capacity matters: pairs of overlapping real hand-written digits.

Every 32x32 RGB image shows two of scikit-learn's digits side by side, scaled, rotated, shifted and
partly over each other, among smaller digits as clutter, on a textured background, blurred and with
pixel noise. The label is the number of two digits that they make: 100 classes. A digit's writer
sample (an 8x8 original) belongs to one split only, so a split never shows another's handwriting.
"""

import numpy as np

from prune_gym.datasets.classification import Data
from prune_gym.datasets.drawing import background, ink, place
from prune_gym.datasets.embedded import Digits, Splits, build_splits, load_images

SEED = 20261130
SIZES = {"train": 20_000, "search": 2_000, "test": 5_000}
AT_ONCE = 500  # images drawn together: more would not fit the processor's caches
CLUTTER = 2
APART = 6.0  # pixels between the center of the image and that of each digit
CACHE = "digit-pairs-v1.npz"
# Of all pixels and labels: an id means the same task on every machine.
SHA256 = "8e1050c757e2eaf476dbb2b24b9a8efe0d5b32224b44a235b9b302360795d1c6"


def load() -> Data:
    """Return the pairs, from the user's cache or built in seconds.

    Raises:
        UserError: what was built is not what the ids were made with, so results would
            not be comparable.
    """
    return load_images("digit-pairs", 100, CACHE, SHA256, build)


def build() -> Splits:
    """Make all splits from the fixed seed: name -> (images uint8 (N, 3, 32, 32), labels)."""
    return build_splits(SEED, _draw)


def _draw(split: str, digits: Digits, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    members, parts = digits.members, []
    for _ in range(SIZES[split] // AT_ONCE):
        left, right, *clutter = members[rng.integers(len(members), size=(2 + CLUTTER, AT_ONCE))]
        labels = 10 * digits.labels[left] + digits.labels[right]
        parts.append((render(digits.images, left, right, clutter, rng), labels))
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def render(
    originals: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    clutter: list[np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw pairs of digits among clutter; return ``uint8 (n, 3, 32, 32)``."""
    n = len(left)
    canvas = background(n, rng)
    for chosen in clutter:
        mask = place(originals[chosen], rng, cell=(1.0, 1.6), shift=14.0, degrees=180.0)
        canvas = ink(canvas, 0.5 * mask, rng.random((n, 3)))
    mean = canvas.mean(axis=(2, 3))
    for chosen, side in ((left, -APART), (right, APART)):
        mask = place(originals[chosen], rng, cell=(1.6, 2.2), shift=2.0, degrees=20.0, right=side)
        # Each digit's ink stands at least 0.25 off the mean background in every channel.
        step = 0.25 + 0.3 * rng.random((n, 3))
        canvas = ink(canvas, mask, np.where(mean < 0.5, mean + step, mean - step))
    canvas = _blurred(canvas, rng.random((n, 1, 1, 1)))
    canvas += 0.2 * (rng.random(canvas.shape) - 0.5)
    return np.round(255 * np.clip(canvas, 0.0, 1.0)).astype(np.uint8)


def _blurred(canvas: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Mix images with themselves blurred by (1, 2, 1) / 4 in both directions."""
    soft = canvas
    for axis in (2, 3):
        before, after = (np.roll(soft, by, axis) for by in (1, -1))
        soft = 0.25 * before + 0.5 * soft + 0.25 * after
    return (1 - share) * canvas + share * soft
