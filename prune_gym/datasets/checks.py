"""Check images, labels and preprocessing; every data set goes through these functions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from prune_gym.errors import UserError
from prune_gym.graph.inputs import Arrays, Inputs, shape_of

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
            + ("; give the pixels, with their mean and std" if images.dtype.kind == "f" else "")
        )
    if not len(images):
        raise UserError("a split needs at least one image, got none")
    return images


def check_inputs(given: Any) -> np.ndarray | Inputs:
    """Return what the networks of a split read: images, or several inputs in a tuple or a dict.

    The names in a dict are those of the arguments of the network's forward. Arrays and tensors are
    taken: uint8 images (N, C, H, W), and numbers (N, ...) that the network takes as they are, which
    become float32, int64 or bool.

    Raises:
        UserError: a type or shape is wrong, or there are no examples, or not equally many of each.
    """
    if isinstance(given, Inputs):
        given = dict(zip(given.names, given.parts, strict=True)) if given.names else given.parts
    if not isinstance(given, tuple | Mapping):
        return check_images(given)
    if not given:
        raise UserError("expected at least one input, got none")
    names = tuple(map(str, given)) if isinstance(given, Mapping) else ()
    values = given.values() if isinstance(given, Mapping) else given
    shown = names or [f"input {at}" for at in range(len(given))]
    parts = tuple(_check_part(*each) for each in zip(shown, values, strict=True))
    counts = [len(each) for each in parts]
    if len(set(counts)) > 1:
        raise UserError(f"expected equally many rows of every input, got {counts}")
    return Inputs(parts, names)


def _check_part(name: str, given: Any) -> np.ndarray:
    """Return one of several inputs as uint8, float32, int64 or bool."""
    array = np.asarray(given)
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    elif array.dtype.kind in "iu" and array.dtype != np.uint8:
        array = array.astype(np.int64, copy=False)
    elif array.dtype.kind not in "ub":
        raise UserError(
            f"{name}: expected an array or tensor of numbers with a row for every example, got "
            f"{array.dtype} of type {type(given).__name__}"
        )
    if array.ndim == 0 or 0 in array.shape:
        raise UserError(f"{name}: expected a row for every example, got the shape {array.shape}")
    if array.dtype == np.uint8 and array.ndim not in RANKS:
        raise UserError(
            f"{name}: uint8 are images (N, C, H, W), (N, C, L) or (N, C, D, H, W), got "
            f"{array.shape}; give other numbers as floats or int64"
        )
    if not np.isfinite(array).all():
        raise UserError(f"{name}: expected finite numbers, got NaN or infinity")
    return array


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


def check_shapes(images: Sequence[Arrays]) -> None:
    """Refuse splits whose images differ in their shape.

    Raises:
        UserError: they differ.
    """
    shapes = [shape_of(each) for each in images]
    if len(set(shapes)) > 1:
        raise UserError(
            f"train, search and test need images of one shape (C, H, W), got {shapes[0]}, "
            f"{shapes[1]} and {shapes[2]}"
        )


def check_normalization(mean: Any, std: Any, images: Arrays) -> tuple[Any, Any]:
    """Return the mean and the standard deviation as one float per channel; of token ids none.

    Of several inputs they are tuples of such tuples, one for each input: empty but for images.

    Raises:
        UserError: there is not one finite number per channel, or a deviation is not positive.
    """
    if isinstance(images, Inputs):
        means, stds = of_each("mean", mean, images), of_each("std", std, images)
        channels = [each.shape[1] if each.dtype == np.uint8 else 0 for each in images.parts]
        checked = [_check_normalization(*each) for each in zip(means, stds, channels, strict=True)]
        return tuple(mean for mean, _ in checked), tuple(std for _, std in checked)
    return _check_normalization(mean, std, 0 if are_ids(images) else images.shape[1])


def _check_normalization(
    mean: Any, std: Any, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not channels:
        mean, std = (() if each is None else each for each in (mean, std))
    means, stds = _floats("mean", mean, channels), _floats("std", std, channels)
    if min(stds, default=1) <= 0:
        raise UserError(f"std: expected positive numbers, got {stds}")
    return means, stds


def of_each(name: str, given: Any, inputs: Inputs) -> list[Any]:
    """Return a value for each of several inputs: None where there is none.

    Raises:
        UserError: there is neither one for each of them, nor a dict by their names.
    """
    if isinstance(given, Mapping) and set(given) <= set(inputs.names):
        return [given.get(each) for each in inputs.names]
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        found: Any = given
    elif len(found := list(given)) == len(inputs.parts):
        return found
    raise UserError(
        f"{name}: expected one for each of {len(inputs.parts)} inputs, such as "
        f"({', '.join(['(0.5, 0.5, 0.5)'] + ['()'] * (len(inputs.parts) - 1))}), or a dict by "
        f"their names; got {found!r}"
    )


def _floats(name: str, given: Any, channels: int) -> tuple[float, ...]:
    wrong = UserError(
        f"{name}: expected one finite number per channel of the images ({channels}), such as "
        f"({', '.join(['0.5'] * channels)}{',' if channels == 1 else ''}); got {given!r}"
        if channels
        else f"{name}: token ids are not normalized, expected (); only images are. Got {given!r}"
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
