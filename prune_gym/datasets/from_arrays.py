"""Turn labelled images into `Data`: arrays, torch data sets and loaders."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from prune_gym.datasets import Data, ScoredData, ScoredSplit, Split
from prune_gym.datasets.checks import (
    check_inputs,
    check_labels,
    check_normalization,
    of_each,
)
from prune_gym.datasets.stratify import split_by_class
from prune_gym.errors import UserError, UserTypeError
from prune_gym.graph.inputs import Arrays, Inputs

_Given = TypeVar("_Given", Data, ScoredData)
CHANNELS = (1, 3)
MAX_CLASSES = 1_000_000
OWN_FLOATS = "own-floats"  # name of data whose images came as the network takes them
OWN_IDS = "own-ids"  # name of data of token ids
EXPECTED = (
    "expected a Data, a pair of arrays (images, labels), or a torch Dataset or DataLoader of "
    "(image, label); several inputs are a tuple or a dict in the place of the image"
)


def as_data(
    given: Any,
    seed: int = 0,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels_last: bool | None = None,
    channels: int | None = None,
    rank: int = 2,
) -> Data:
    """Return data in three splits: of every class 80 % to train, 10 % to search and 10 % to test.

    Args:
        given: a ``Data``, which is returned as it is; ``(images, labels)``; or a data set or loader
            of pairs of an image (or batch) and a label. Images are uint8, then scaled to [0, 1], or
            floats just as the network expects them, (N, C, H, W) or (N, H, W, C). Floats are put on
            256 levels between each channel's least and largest: no outliers. Several inputs are a
            tuple, or a dict by the names of the forward's arguments, in the place of the images;
            of those, all but uint8 images (N, C, H, W) stay as they are.
        seed: of the splits.
        mean: per channel, what the network's training subtracted from images, uint8 ones scaled to
            [0, 1]; of several inputs one such tuple for each, or a dict of them by name.
        std: per channel, what it then divided by.
        channels_last: whether images are (N, H, W, C); None: recognized by ``channels``.
        channels: of the images that the network takes; None: 1 or 3, for uint8 images alone.
        rank: dimensions of an image: 1 for signals (N, C, L), 3 for volumes (N, C, D, H, W).

    Raises:
        UserTypeError: something else.
        UserError: shapes, labels, or mean and std do not fit.
    """
    if isinstance(given, Data):
        return _as_it_is(given, mean, std, channels_last)
    images, labels = _arrays(given)
    pixels, normalization, name = _pixels(images, mean, std, channels_last, channels, rank)
    labels = check_labels(labels, len(images))
    num_classes = int(labels.max(initial=0)) + 1
    if num_classes > MAX_CLASSES:
        raise UserError(f"labels: expected at most {MAX_CLASSES:,} classes, got {labels.max()}")
    order = np.random.default_rng(seed).permutation(len(labels))
    parts = split_by_class(labels[order], [str(each) for each in range(num_classes)])
    train, search, test = (
        Split(pixels[chosen], labels[chosen])
        for chosen in (np.sort(order[positions]) for positions in parts)
    )
    return Data(name, num_classes, train, search, test, *normalization, flip=False)


def as_scored_data(
    given: Any,
    score: Callable[[Any, Any], float] | None,
    seed: int = 0,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels_last: bool | None = None,
    channels: int | None = None,
    rank: int = 2,
    loss: Callable[[Any, Any], torch.Tensor] | None = None,
) -> ScoredData:
    """Return data with a score in three splits at random: 80 % train, 10 % search, 10 % test.

    Args:
        given: a ``ScoredData``, which is returned as it is; or ``(images, targets)``, images as
            `as_data` takes them and targets as `ScoredSplit` does.
        score: ``score(outputs, targets)``, see `ScoredData`.
        seed: of the splits.
        mean: as of `as_data`.
        std: as of `as_data`.
        channels_last: as of `as_data`.
        channels: as of `as_data`.
        rank: as of `as_data`.
        loss: ``loss(outputs, targets)``, see `ScoredData`.

    Raises:
        UserTypeError: something else.
        UserError: shapes, or mean and std, do not fit; fewer than three images; two scores.
    """
    if isinstance(given, ScoredData):
        if score is not None or loss is not None:
            raise UserError("a ScoredData has a score and a loss: give no others")
        return _as_it_is(given, mean, std, channels_last)
    if not isinstance(given, tuple | list) or len(given) != 2 or not _are_inputs(given[0]):
        raise UserTypeError(
            "with score= expected a ScoredData, or a pair (images, targets) of arrays or tensors; "
            f"got {type(given).__name__}"
        )
    assert score is not None
    images = _inputs(given[0])
    pixels, normalization, name = _pixels(images, mean, std, channels_last, channels, rank)
    whole, count = ScoredSplit(pixels, given[1]), len(pixels)
    if count < 3:
        raise UserError(f"expected at least 3 images, one for each split, got {count}")
    order, held = np.random.default_rng(seed).permutation(count), max(count // 10, 1)
    parts = order[2 * held :], order[:held], order[held : 2 * held]
    train, search, test = (whole.select(np.sort(part)) for part in parts)
    return ScoredData(name, train, search, test, *normalization, score, loss=loss)


def _as_it_is(given: _Given, mean: Any, std: Any, channels_last: bool | None) -> _Given:
    if mean is not None or std is not None or channels_last is not None:
        kind = type(given).__name__
        raise UserError(f"a {kind} has a mean and std, and images (N, C, H, W): give no others")
    return given


def _pixels(
    images: Arrays,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    channels_last: bool | None,
    channels: int | None,
    rank: int,
) -> tuple[Arrays, tuple[Any, Any], str]:
    """Return images ``uint8 (N, C, H, W)``, their mean and std, and the name of such data.

    Whole numbers (N, L) are token ids; they become int64 and have no mean and std.
    """
    if (mean is None) != (std is None):
        raise UserError("expected mean and std together, got one of them")
    if isinstance(images, Inputs):
        return _several(images, mean, std, channels_last)
    if images.ndim == 2 and np.issubdtype(images.dtype, np.signedinteger):
        ids = images.astype(np.int64)
        return ids, check_normalization(mean or (), std or (), ids), OWN_IDS
    if images.ndim == rank + 1 and channels == 1:
        images = images[:, None]
    if images.ndim != rank + 2:
        shape = {1: "(N, C, L)", 3: "(N, C, D, H, W)"}.get(rank, "(N, C, H, W)")
        raise UserError(
            f"expected images {shape}, got {images.dtype} {images.shape}; numbers that are no "
            "images are given in a tuple, also alone: ((numbers,), labels)"
        )
    if 0 in images.shape:
        raise UserError(f"images: expected at least one, got an array of shape {images.shape}")
    if images.dtype == np.float16:
        images = images.astype(np.float32)
    if _is_channels_last(images, channels) if channels_last is None else channels_last:
        images = np.moveaxis(images, -1, 1)
    pixels, low, span = _as_bytes(images)
    is_bytes = images.dtype == np.uint8
    name = "own" if is_bytes or mean is not None else OWN_FLOATS
    count = images.shape[1]
    means, stds = check_normalization(
        (0.0,) * count if mean is None else mean, (1.0,) * count if std is None else std, images
    )
    return pixels, (_floats((means - low) / span), _floats(stds / span)), name


def _several(
    given: Inputs, mean: Any, std: Any, channels_last: bool | None
) -> tuple[Inputs, tuple[Any, Any], str]:
    """Return several inputs, checked, their means and stds, and the name of such data."""
    if channels_last is not None:
        raise UserError("channels_last: several inputs are given as the network takes them")
    inputs = cast(Inputs, check_inputs(given))
    means, stds = (
        [None] * len(inputs.parts) if each is None else of_each(name, each, inputs)
        for name, each in (("mean", mean), ("std", std))
    )
    for at, part in enumerate(inputs.parts):
        if part.dtype == np.uint8 and means[at] is None and stds[at] is None:
            means[at], stds[at] = (0.0,) * part.shape[1], (1.0,) * part.shape[1]
    return inputs, check_normalization(means, stds, inputs), "own"


def _is_channels_last(images: np.ndarray, channels: int | None) -> bool:
    """Return whether images are (N, H, W, C)."""
    if channels is not None:
        return images.shape[1] != channels and images.shape[-1] == channels
    is_bytes = images.dtype == np.uint8
    return is_bytes and images.shape[1] not in CHANNELS and images.shape[-1] in CHANNELS


def _arrays(given: Any) -> tuple[Arrays, np.ndarray]:
    """Return images, or several inputs, and labels as they came."""
    if isinstance(given, tuple | list) and len(given) == 2:
        images, labels = given
        several = isinstance(images, tuple | Mapping) and _are_inputs(images)
        if _is_array(images) or (several and (_is_array(labels) or isinstance(labels, list))):
            return _inputs(images), _array(labels)
    if isinstance(given, IterableDataset):
        raise UserTypeError("a data set that has no length: give it in a torch DataLoader")
    is_loader, is_mapping = isinstance(given, DataLoader), isinstance(given, Mapping)
    if is_mapping or not (is_loader or hasattr(given, "__getitem__")):
        raise UserTypeError(f"{EXPECTED}; got {type(given).__name__}")
    try:
        pairs = [(_inputs(image), _array(label)) for image, label in _pairs(given)]
    except (TypeError, ValueError) as error:
        raise UserTypeError(
            f"{EXPECTED}, images as arrays or tensors; got {type(given).__name__} ({error})"
        ) from error
    if not pairs:
        raise UserError(f"{EXPECTED}; this {type(given).__name__} is empty")
    batched = is_loader and pairs[0][1].ndim > 0  # not so with batch_size=None
    join = np.concatenate if batched else np.stack
    images, labels = zip(*pairs, strict=True)
    return _joined(join, images, "images"), _joined(join, labels, "labels")


def _joined(join: Callable, arrays: Sequence[Any], what: str) -> Any:
    if isinstance(first := arrays[0], Inputs):
        if {getattr(each, "names", None) for each in arrays} != {first.names} or any(
            len(each.parts) != len(first.parts) for each in arrays
        ):
            raise UserError("inputs: expected the same ones for every example")
        columns = zip(*(each.parts for each in arrays), strict=True)
        return Inputs(tuple(_joined(join, each, "inputs") for each in columns), first.names)
    try:
        return join(arrays)
    except ValueError as error:
        shapes = sorted({array.shape for array in arrays}, key=str)
        raise UserError(
            f"{what}: expected one shape, got {shapes[0]} and {shapes[-1]}; let the data set's "
            "transform make them equal, such as by resizing"
        ) from error


def _pairs(given: Any) -> Iterator[tuple[Any, Any]]:
    items = given if isinstance(given, DataLoader) else (given[i] for i in range(len(given)))
    for item in items:
        if isinstance(item, Mapping):
            raise UserTypeError(f"its items are mappings of {', '.join(map(str, item))}, not pairs")
        image, label = item
        yield image, label


def _array(given: Any) -> np.ndarray:
    if not isinstance(given, torch.Tensor):
        return np.asarray(given)
    if given.is_meta or given.layout is not torch.strided:
        kind = "the meta device" if given.is_meta else f"layout {given.layout}"
        raise UserError(f"expected dense tensors with numbers, got one of {kind}")
    given = given.detach().cpu()
    return (given.float() if given.dtype == torch.bfloat16 else given).numpy()


def _inputs(given: Any) -> Arrays:
    """Return an image, or a batch of them, as an array; several inputs as several arrays."""
    if not _are_inputs(given) or _is_array(given):
        return _array(given)
    names = tuple(map(str, given)) if isinstance(given, Mapping) else ()
    values = given.values() if isinstance(given, Mapping) else given
    return Inputs(tuple(map(_array, values)), names)


def _are_inputs(given: Any) -> bool:
    """Return whether this is an array or tensor, or several."""
    values = list(given.values()) if isinstance(given, Mapping) else given
    several = isinstance(values, tuple | list) and any(map(_is_array, values))
    return _is_array(given) or (
        several and all(_is_array(each) or isinstance(each, int | float) for each in values)
    )


def _is_array(given: Any) -> bool:
    return isinstance(given, np.ndarray | torch.Tensor)


def _as_bytes(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return uint8 images, and per channel the values that 0 and the span to 255 stand for.

    Floats are put on 256 levels between each channel's least and largest. Images that were bytes
    before they were normalized come back exactly where both extremes occur.
    """
    count = images.shape[1]
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images), np.zeros(count), np.ones(count)
    if not np.issubdtype(images.dtype, np.floating):
        raise UserError(f"images: expected uint8 or floats, got {images.dtype}")
    if wrong := int((~np.isfinite(images)).any(axis=tuple(range(1, images.ndim))).sum()):
        raise UserError(
            f"images: expected finite numbers, got NaN or infinity in {wrong} of {len(images)}"
        )
    others = (0, *range(2, images.ndim))
    low, high = images.min(axis=others), images.max(axis=others)
    span = np.maximum(high - low, 1e-6)
    each = (1, -1, *(1,) * (images.ndim - 2))
    levels = np.rint(255 * (images - low.reshape(each)) / span.reshape(each)).astype(np.uint8)
    return levels, low, span


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
