"""Fit a piecewise bilinear function on a grid to noisy points, by least squares."""

from collections.abc import Callable

import numpy as np

SMOOTHNESS = 0.02  # weight of a second difference beside that of a measured time
IRLS_ROUNDS = 5
HUBER_THRESHOLD = 0.05  # relative error beyond which an error counts linearly
RIDGE = 1e-9  # keeps unknowns at zero that no point determines


def fit_irls(
    design: np.ndarray,
    measured: np.ndarray,
    scale: Callable[[np.ndarray], np.ndarray],
    bends: np.ndarray | None = None,
) -> np.ndarray:
    """Fit by iteratively reweighted least squares (IRLS) with a Huber loss of relative errors.

    The solution is not negative. Errors are relative to the values of the previous round: relative
    to measured values, they would draw the solution to the lower of two noisy times. Errors beyond
    HUBER_THRESHOLD count linearly.

    Args:
        design: float64 (points, unknowns).
        measured: float64 (points,).
        scale: function from fitted values (points,) to the units of their errors.
        bends: float64 (bends, unknowns), combinations of unknowns that are kept small.
    """
    fitted = np.full(len(measured), float(np.median(measured)))
    found = np.zeros(design.shape[1])
    for _ in range(IRLS_ROUNDS):
        size = scale(fitted)
        far = np.abs(measured - fitted) / size / HUBER_THRESHOLD
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


def hat_functions(values: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Return the hat functions of a grid at ``values``, (n,) -> (n, points).

    They are the weights of the grid points in linear interpolation.
    """
    return np.stack([np.interp(values, axis, unit) for unit in np.eye(len(axis))], axis=1)


def second_differences(axis: np.ndarray) -> np.ndarray:
    """Return the second differences of inner grid points, ``(points - 2, points)``.

    Each is the distance to the line between both neighbors: a linear function has zeros.
    """
    rows = np.zeros((max(len(axis) - 2, 0), len(axis)))
    for row, (low, middle, high) in enumerate(zip(axis, axis[1:], axis[2:], strict=False)):
        share = (middle - low) / (high - low)
        rows[row, row : row + 3] = (share - 1, 1, -share)
    return rows


def grid_second_differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the second differences along both axes of a flattened grid, (bends, points)."""
    along_first = np.kron(second_differences(first), np.eye(len(second)))
    return np.concatenate([along_first, np.kron(np.eye(len(first)), second_differences(second))])
