"""Least squares on a grid: a piecewise bilinear function through noisy points."""

from collections.abc import Callable

import numpy as np

SMOOTHNESS = 0.02  # weight of a bend between grid points beside that of a measured time
ROUNDS, OUTLIER = 5, 0.05
RIDGE = 1e-9  # keeps unknowns that no point tells at zero


def robust(
    design: np.ndarray,
    measured: np.ndarray,
    scale: Callable[[np.ndarray], np.ndarray],
    bends: np.ndarray | None = None,
) -> np.ndarray:
    """Return the non-negative solution of least relative errors, with little regard to outliers.

    Errors are relative to what was fitted before and not to what was measured, which would draw
    the solution to the lower of two noisy times. Those beyond OUTLIER count linearly (Huber).

    Args:
        design: float64 (points, unknowns).
        measured: float64 (points,).
        scale: from fitted values (points,) to the size in which their errors are counted.
        bends: float64 (bends, unknowns), what is to be small where points leave it open.
    """
    fitted = np.full(len(measured), float(np.median(measured)))
    found = np.zeros(design.shape[1])
    for _ in range(ROUNDS):
        size = scale(fitted)
        far = np.abs(measured - fitted) / size / OUTLIER
        weight = 1 / (size * np.sqrt(np.maximum(far, 1.0)))
        rows, values = design * weight[:, None], measured * weight
        if bends is not None:
            smooth = SMOOTHNESS * len(measured) ** 0.5 / float(np.median(size)) * bends
            rows = np.concatenate([rows, smooth])
            values = np.concatenate([values, np.zeros(len(smooth))])
        normal = rows.T @ rows
        ridge = RIDGE * np.trace(normal) / len(normal) * np.eye(len(normal))
        found = np.maximum(np.linalg.solve(normal + ridge, rows.T @ values), 0.0)
        fitted = design @ found
    return found


def hats(values: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Return the shares of grid points in values between them, (n,) -> (n, points)."""
    return np.stack([np.interp(values, axis, unit) for unit in np.eye(len(axis))], axis=1)


def off_line(axis: np.ndarray) -> np.ndarray:
    """Return how far inner grid points are off the line between their neighbours.

    Shape: (points - 2, points); a linear function has none.
    """
    rows = np.zeros((max(len(axis) - 2, 0), len(axis)))
    for row, (low, middle, high) in enumerate(zip(axis, axis[1:], axis[2:], strict=False)):
        share = (middle - low) / (high - low)
        rows[row, row : row + 3] = (share - 1, 1, -share)
    return rows


def off_plane(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the same for both axes of a flattened grid, (bends, points)."""
    along_first = np.kron(off_line(first), np.eye(len(second)))
    return np.concatenate([along_first, np.kron(np.eye(len(first)), off_line(second))])
