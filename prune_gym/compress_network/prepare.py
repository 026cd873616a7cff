"""Prepare the user's images and labels for a network, and name what does not fit."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map

from prune_gym.compress_network.choose import standard_error
from prune_gym.compression.calibration import IMAGES
from prune_gym.compression.finite import check_finite
from prune_gym.compression.verify import count_classes
from prune_gym.datasets import Data, ScoredData, ScoredSplit, Split
from prune_gym.datasets.checks import are_ids
from prune_gym.datasets.from_arrays import as_data, as_scored_data
from prune_gym.datasets.normalize import normalize
from prune_gym.errors import UserError, first_line
from prune_gym.evaluation.evaluator import accuracy
from prune_gym.graph.inputs import Arrays, Inputs, feed, shape_of
from prune_gym.graph.layer_types import Convolution

logger = logging.getLogger(__name__)

SEARCH_IMAGES = 2_000  # enough for a standard error of half a point at 95 %
CHECKED = 500  # images on which normalizations are compared
ABOVE_CHANCE = 0.05  # of the way up from chance; below it the images are not those it knows
ONE_OUTPUT = (
    "; of one output give score=, such as lambda outputs, targets: "
    "((outputs[:, 0] > 0) == targets).float().mean()"
)
CLEARLY_BETTER = 0.1  # accuracy by which another normalization must win


def as_fitting_data(
    given: Any,
    network: nn.Module,
    seed: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    channels_last: bool | None,
    score: Callable[[Any, Any], float] | None = None,
    loss: Callable[[Any, Any], torch.Tensor] | None = None,
) -> Data | ScoredData:
    """Return the user's images in three splits, as the network takes them.

    With a score, nothing is known of the outputs, so that the normalization is not checked.

    Raises:
        UserError: the network does not take the images, the labels are not its classes, or it is
            right on so few images that they are probably normalized otherwise.
    """
    first = next((each for each in network.modules() if isinstance(each, Convolution)), None)
    channels, rank = (first.in_channels, first.weight.ndim - 2) if first else (None, 2)
    pixels: dict[str, Any] = {"mean": mean, "std": std, "channels_last": channels_last}
    pixels |= {"channels": channels, "rank": rank}
    if score is not None or isinstance(given, ScoredData):
        return as_scored_data(given, score, seed, **pixels, loss=loss)
    if loss is not None:
        raise UserError("loss: it is for data with a score; give score= too")
    data = _with_classes(as_data(given, seed, **pixels), network)
    _check_normalization(network, data, is_chosen=mean is not None or isinstance(given, Data))
    return data


@torch.inference_mode()
def _with_classes(data: Data, network: nn.Module) -> Data:
    """Return the data with as many classes as the network has outputs."""
    images = normalize(data.train.images[:2], data)
    check_finite(network, images)
    try:
        outputs = feed(network, images)
    except Exception as error:  # whatever its forward raises on such images
        several = isinstance(images, Inputs)
        shape = shape_of(images) if several else f"of shape {tuple(images.shape)}"
        what = "inputs" if several else "images"
        raise UserError(f"the network does not take {what} {shape}: {first_line(error)}") from error
    classes, splits = count_classes(outputs), (data.train, data.search, data.test)
    if data.num_classes == classes + 1 and min(int(each.labels.min()) for each in splits) == 1:
        logger.warning("labels 1 to %d are taken as the classes 0 to %d", classes, classes - 1)
        train, search, test = (replace(each, labels=each.labels - 1) for each in splits)
        return replace(data, num_classes=classes, train=train, search=search, test=test)
    if classes < data.num_classes:
        raise UserError(
            f"the network has {classes} outputs, and there are labels up to {data.num_classes - 1}"
            + (ONE_OUTPUT if classes == 1 else "")
        )
    return replace(data, num_classes=classes)


def _check_normalization(network: nn.Module, data: Data, is_chosen: bool) -> None:
    """Refuse images that the network does not know, and say which normalization fits better."""
    step = max(len(data.train) // CHECKED, 1)
    some = Split(data.train.images[::step][:CHECKED], data.train.labels[::step][:CHECKED])
    found = accuracy(network, data, some)
    known = data.chance + ABOVE_CHANCE * (1 - data.chance)
    if not (is_chosen or isinstance(some.images, Inputs) or are_ids(some.images)):
        others = {name: replace(data, mean=m, std=s) for name, m, s in _normalizations(some.images)}
        scores = {name: accuracy(network, each, some) for name, each in others.items()}
        best = max(scores, key=lambda name: scores[name])
        clearly = found + max(CLEARLY_BETTER, 4 * standard_error(found, len(some)))
        if scores[best] > max(clearly, known):
            mean, std = _in_units_given(others[best], data)
            raise UserError(
                f"the network is right on {found:.1%} of {len(some)} images as they are, and on "
                f"{scores[best]:.1%} {best}: give mean={mean} and std={std}, or what its training "
                "took"
            )
    if found < known:
        raise UserError(
            f"the network is right on {found:.1%} of {len(some)} images, little more than "
            f"chance ({data.chance:.1%}): is it trained, and are the images normalized as in its "
            "training? Give mean and std of its training, or floats just as the network expects "
            "them (without outliers: they are put on 256 levels)"
        )


def _normalizations(
    images: np.ndarray,
) -> list[tuple[str, tuple[float, ...], tuple[float, ...]]]:
    """Return other normalizations to try: their name, mean and deviation."""
    pixels = images / np.float32(255)
    others = (0, *range(2, images.ndim))
    mean, std = pixels.mean(axis=others), np.maximum(pixels.std(axis=others), 1e-3)
    count = len(mean)
    return [
        ("with each channel standardized", tuple(mean.tolist()), tuple(std.tolist())),
        ("with each channel scaled to [0, 1]", (0.0,) * count, (1.0,) * count),
        ("as pixels from 0 to 255", (0.0,) * count, (1 / 255,) * count),
    ]


def _in_units_given(other: Data, data: Data) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return a normalization as ``mean`` and ``std`` of the images that were given."""
    own = list(zip(data.mean, data.std, strict=True))
    mean = (float(f"{(m - low) / s:.4g}") for m, (low, s) in zip(other.mean, own, strict=True))
    std = (float(f"{t / s:.4g}") for t, (_, s) in zip(other.std, own, strict=True))
    return tuple(mean), tuple(std)


def share_training_images(data: Data | ScoredData, seed: int) -> Data | ScoredData:
    """Return the data of the search: training images fill the search split up to 2,000 images.

    At most 512 training images stay, for calibration. Where there are too few others, they are
    searched on as well: calibration sees no labels.
    """
    missing = max(SEARCH_IMAGES - len(data.search), 0)
    if not missing:
        return data
    order = np.random.default_rng(seed).permutation(len(data.train))
    calibration, others = np.sort(order[:IMAGES]), order[IMAGES:]
    joined = np.sort(np.concatenate([others, order[:IMAGES]])[:missing])
    if isinstance(data, ScoredData):
        more = data.train.select(joined)
        search = ScoredSplit(
            _concatenated(data.search.images, more.images),
            tree_map(lambda *each: torch.cat(each), data.search.targets, more.targets),
        )
        return replace(data, train=data.train.select(calibration), search=search)
    images, labels = data.train.images, data.train.labels
    return replace(
        data,
        train=Split(images[calibration], labels[calibration]),
        search=Split(
            _concatenated(data.search.images, images[joined]),
            np.concatenate([data.search.labels, labels[joined]]),
        ),
    )


def _concatenated(*images: Arrays) -> Arrays:
    return tree_map(lambda *each: np.concatenate(each), *images)
