"""Make embedded data: scikit-learn's real hand-written digits, hard enough to search on.

Every 32x32 RGB image shows one digit, scaled, rotated and shifted, over a textured background with
smaller digits as clutter and with pixel noise. The label is the large digit's. A digit's writer
sample (an 8x8 original) belongs to one split only, so a split never shows another's handwriting.
"""

import numpy as np

from prune_gym.datasets.classification import Data
from prune_gym.datasets.drawing import background, ink, place
from prune_gym.datasets.embedded import Digits, Splits, build_splits, load_images

SEED = 20240130
SIZES = {"train": 8_000, "search": 2_000, "test": 2_000}
CLUTTER = 2
CACHE = "digits-v1.npz"
# Of all pixels and labels: an id means the same task on every machine.
SHA256 = "4ad229a4b9b6e7d74a17e67dff10e80194c4d97e2804a08e257ea0e7931e5f81"


def load() -> Data:
    """Return the digits, from the user's cache or built in seconds.

    Raises:
        UserError: what was built is not what the ids were made with, so results would
            not be comparable.
    """
    return load_images("digits", 10, CACHE, SHA256, build)


def build() -> Splits:
    """Make all splits from the fixed seed: name -> (images uint8 (N, 3, 32, 32), labels)."""
    return build_splits(SEED, _draw)


def _draw(split: str, digits: Digits, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    members, size = digits.members, SIZES[split]
    chosen = members[rng.integers(len(members), size=size)]
    clutter = members[rng.integers(len(members), size=(size, CLUTTER))]
    return render(digits.images, chosen, clutter, rng), digits.labels[chosen]


def render(
    originals: np.ndarray, chosen: np.ndarray, clutter: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw the chosen digits among clutter; return ``uint8 (n, 3, 32, 32)``."""
    n = len(chosen)
    canvas = background(n, rng)
    for column in clutter.T:
        # Small digits, anywhere, in half-transparent ink of any color.
        mask = place(originals[column], rng, cell=(1.0, 1.7), shift=14.0, degrees=180.0)
        canvas = ink(canvas, 0.6 * mask, rng.random((n, 3)))
    mask = place(originals[chosen], rng, cell=(2.0, 3.2), shift=5.0, degrees=20.0)
    # The digit's ink stands at least 0.3 off the mean background in every channel.
    mean = canvas.mean(axis=(2, 3))
    step = 0.3 + 0.3 * rng.random((n, 3))
    canvas = ink(canvas, mask, np.where(mean < 0.5, mean + step, mean - step))
    canvas += 0.2 * (rng.random(canvas.shape) - 0.5)
    return np.round(255 * np.clip(canvas, 0.0, 1.0)).astype(np.uint8)
