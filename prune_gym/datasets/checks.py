"""Check images, labels and preprocessing; every data set goes through these functions."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from prune_gym.errors import UserError

RANKS = (3, 4, 5)  # dimensions of an array of images


def check_images(images: Any) -> np.ndarray:
    """Return the images of a split, an array ``uint8 (N, C, H, W)`` of at least one image.

    Signals (N, C, L) and volumes (N, C, D, H, W) are images of one and of three dimensions. Texts
    are taken too: ids of their tokens, ``int64 (N, L)``.

    Raises:
        UserError: their type or shape is wrong, or there are none.
    """
    if not isinstance(images, np.ndarray):
        raise UserError(
            f"images: expected a NumPy array uint8 (N, C, H, W), got {type(images).__name__}"
        )
    known = are_ids(images) or (images.dtype == np.uint8 and images.ndim in RANKS)
    if not known or 0 in images.shape[1:]:
        raise UserError(
            f"a split needs uint8 images (N, C, H, W), or (N, C, L) or (N, C, D, H, W), or int64 "
            f"token ids (N, L), got {images.dtype} {images.shape}"
        )
    if not len(images):
        raise UserError("a split needs at least one image, got none")
    return images


def are_ids(images: np.ndarray) -> bool:
    """Return whether an array holds token ids, ``int64 (N, L)``, in place of images."""
    return images.dtype == np.int64 and images.ndim == 2


def check_labels(labels: Any, count: int) -> np.ndarray:
    """Return the labels of ``count`` images as ``int64 (count,)``; a list of integers will do.

    Raises:
        UserError: they are no integers, some are negative, or there is not one per image.
    """
    try:
        array = np.asarray(labels)
    except ValueError as error:  # a ragged list
        raise UserError(f"labels: expected one integer per image ({error})") from error
    if array.shape != (count,):
        one_hot = array.ndim == 2 and array.shape[0] == count and array.shape[1] > 1
        raise UserError(
            f"labels: expected one per image, {count} labels of shape ({count},); got "
            f"{array.shape or 'one value'}"
            + ("; of one-hot labels give labels.argmax(1)" if one_hot else "")
        )
    if count and not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"labels: expected integers 0, 1, ..., got {array.dtype}")
    array = array.astype(np.int64, copy=False)
    if count and array.min() < 0:
        raise UserError(f"labels: expected integers 0, 1, ..., got {array.min()}")
    return array


def check_classes(labels: np.ndarray, num_classes: int, split: str) -> None:
    """Refuse labels that are not below ``num_classes``.

    Raises:
        UserError: one is not; says which and in which split.
    """
    if len(labels) and labels.max() >= num_classes:
        raise UserError(
            f"{split}: expected labels 0 to {num_classes - 1} for {num_classes} classes, got "
            f"{labels.max()}"
        )


def check_shapes(images: Sequence[np.ndarray]) -> None:
    """Refuse splits whose images differ in their shape.

    Raises:
        UserError: they differ.
    """
    shapes = [each.shape[1:] for each in images]
    if len(set(shapes)) > 1:
        raise UserError(
            f"train, search and test need images of one shape (C, H, W), got {shapes[0]}, "
            f"{shapes[1]} and {shapes[2]}"
        )


def check_normalization(
    mean: Any, std: Any, images: np.ndarray
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation as one float per channel; of token ids none.

    Raises:
        UserError: there is not one finite number per channel, or a deviation is not positive.
    """
    channels = 0 if are_ids(images) else images.shape[1]
    means, stds = _floats("mean", mean, channels), _floats("std", std, channels)
    if min(stds, default=1) <= 0:
        raise UserError(f"std: expected positive numbers, got {stds}")
    return means, stds


def _floats(name: str, given: Any, channels: int) -> tuple[float, ...]:
    wrong = UserError(
        f"{name}: expected one finite number per channel of the images ({channels}), such as "
        f"({', '.join(['0.5'] * channels)}{',' if channels == 1 else ''}); got {given!r}"
        if channels
        else f"{name}: token ids are not normalized, expected (); got {given!r}"
    )
    if not isinstance(given, Iterable):
        raise wrong
    try:
        values = tuple(float(each) for each in given)
    except (TypeError, ValueError):
        raise wrong from None
    if len(values) != channels or not np.isfinite(values).all():
        raise wrong
    return values
