"""Describe a classification data set: three splits of images and how they are normalized."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils._pytree import tree_leaves

from prune_gym.datasets.checks import (
    check_classes,
    check_inputs,
    check_labels,
    check_normalization,
    check_shapes,
)
from prune_gym.errors import UserError
from prune_gym.graph.inputs import shape_of

SPLITS = ("train", "search", "test")


@dataclass(frozen=True, repr=False)
class Split:
    """Images ``uint8 (N, C, H, W)`` with labels ``int64 (N,)``; both arrays are read-only.

    Several inputs are a tuple, or a dict by the names of the arguments of the network's forward, of
    such images and of arrays (N, ...) that the network takes as they are.
    """

    images: Any
    labels: np.ndarray

    def __repr__(self) -> str:
        """Return one line: how many images of which shape."""
        return f"<Split of {len(self.images)} images of shape {shape_of(self.images)}>"

    def __post_init__(self) -> None:
        """Check the arrays and make them read-only, as every environment shares them.

        Raises:
            UserError: an array has a wrong type or shape, or there is no image.
        """
        object.__setattr__(self, "images", check_inputs(self.images))
        object.__setattr__(self, "labels", check_labels(self.labels, len(self.images)))
        for array in (*tree_leaves(self.images), self.labels):
            array.setflags(write=False)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """A classification data set.

    Attributes:
        name: the name it is loaded by.
        num_classes: labels are ``0 .. num_classes - 1``.
        train: what networks are trained on and repair is calibrated with.
        search: held out of the training images; rewards see only this split.
        test: for reports, never for a search.
        mean: per channel, of pixels scaled to [0, 1]; () of token ids; of several inputs a tuple of
            such tuples, or a dict by their names.
        std: per channel, likewise.
        flip: whether a mirrored image is still of its class.
    """

    name: str
    num_classes: int
    train: Split
    search: Split
    test: Split
    mean: Any
    std: Any
    flip: bool

    def __post_init__(self) -> None:
        """Check that splits, classes and normalization fit together.

        Raises:
            UserError: a label is not below ``num_classes``, or a shape does not fit.
        """
        if not isinstance(self.num_classes, int | np.integer) or self.num_classes < 1:
            raise UserError(f"num_classes: expected an integer >= 1, got {self.num_classes!r}")
        splits = {name: getattr(self, name) for name in SPLITS}
        check_shapes([split.images for split in splits.values()])
        for name, split in splits.items():
            check_classes(split.labels, self.num_classes, name)
        mean, std = check_normalization(self.mean, self.std, self.train.images)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)

    @property
    def chance(self) -> float:
        """Accuracy of a guess; the reference point of the accuracy objective."""
        return 1.0 / self.num_classes

    @property
    def metric_name(self) -> str:
        """What the accuracy objective is called for people."""
        return "accuracy"
