"""Draw 8x8 digits on 32x32 images: backgrounds, masks, ink."""

import numpy as np


def background(n: int, rng: np.random.Generator) -> np.ndarray:
    """Blend a 4x4 grid of random colors smoothly over ``n`` images, float (n, 3, 32, 32)."""
    knots = 0.2 + 0.6 * rng.random((n, 3, 1, 1)) + 0.4 * (rng.random((n, 3, 4, 4)) - 0.5)
    at = np.linspace(0, 3, 32)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(4)))
    return np.einsum("ncij,yi,xj->ncyx", knots, weights, weights)


def ink(canvas: np.ndarray, mask: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Cover the canvas (n, 3, 32, 32) with a color (n, 3) as far as the mask (n, 32, 32) says."""
    mask = mask[:, None]
    return canvas * (1 - mask) + mask * color[:, :, None, None]


def place(
    digits: np.ndarray,
    rng: np.random.Generator,
    cell: tuple[float, float],
    shift: float,
    degrees: float,
    right: float = 0.0,
) -> np.ndarray:
    """Draw 8x8 digits on 32x32 masks, ``cell`` pixels a cell, turned and shifted at random.

    Args:
        digits: float (n, 8, 8) in [0, 1].
        rng: draws sizes, angles and shifts.
        cell: least and largest size of a cell, in pixels.
        shift: the largest shift in each direction, in pixels.
        degrees: the largest angle.
        right: how far right of the center the digits are before they are shifted, in pixels.

    Returns:
        How much ink covers each pixel: float (n, 32, 32) in [0, 1].
    """
    n = len(digits)
    size = cell[0] + (cell[1] - cell[0]) * rng.random((n, 1, 1))
    angle = np.deg2rad(degrees) * (2 * rng.random((n, 1, 1)) - 1)
    dy, dx = shift * (2 * rng.random((2, n, 1, 1)) - 1)
    y, x = np.mgrid[0:32, 0:32] - 15.5
    y, x = y - dy, x - dx - right
    rows = (np.cos(angle) * y - np.sin(angle) * x) / size + 3.5
    columns = (np.sin(angle) * y + np.cos(angle) * x) / size + 3.5
    return _bilinear(digits, rows, columns)


def _bilinear(digits: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    padded = np.pad(digits, ((0, 0), (1, 2), (1, 2)))
    rows, columns = np.clip(rows + 1, 0, 9), np.clip(columns + 1, 0, 9)
    i, j = rows.astype(np.intp), columns.astype(np.intp)
    u, v = rows - i, columns - j
    n = np.arange(len(digits))[:, None, None]
    return (1 - u) * ((1 - v) * padded[n, i, j] + v * padded[n, i, j + 1]) + u * (
        (1 - v) * padded[n, i + 1, j] + v * padded[n, i + 1, j + 1]
    )
