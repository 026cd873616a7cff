"""Describe data of any task: images, targets of any shape, and a function that scores outputs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves, tree_map

from prune_gym.datasets.checks import check_inputs, check_normalization, check_shapes
from prune_gym.datasets.classification import SPLITS
from prune_gym.errors import UserError, UserTypeError


@dataclass(frozen=True)
class ScoredSplit:
    """Images with targets of any shape.

    Attributes:
        images: ``uint8 (N, C, H, W)``, or token ids ``int64 (N, L)``, or several inputs as of
            `Split`; read-only.
        targets: a tensor of N rows, or tuples, lists and dictionaries of such tensors. Arrays
            become tensors, and floating-point numbers float32.
    """

    images: Any
    targets: Any

    def __post_init__(self) -> None:
        """Check the images, and that every tensor of the targets has a row for each of them.

        Raises:
            UserError: an array has a wrong type or shape, or there is no image.
        """
        object.__setattr__(self, "images", check_inputs(self.images))
        count = len(self.images)
        for array in tree_leaves(self.images):
            array.setflags(write=False)
        try:
            object.__setattr__(self, "targets", tree_map(_tensor, self.targets))
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserTypeError(f"targets: expected arrays or tensors ({error})") from error
        shapes = [tuple(each.shape) for each in tree_leaves(self.targets)]
        if not shapes or any(shape[:1] != (count,) for shape in shapes):
            raise UserError(
                f"targets: expected tensors with a row for each of {count} images, got the shapes "
                f"{shapes}"
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def select(self, chosen: np.ndarray) -> "ScoredSplit":
        """Return the images ``chosen`` (indices), in that order."""
        rows = torch.as_tensor(chosen)
        return ScoredSplit(self.images[chosen], tree_map(lambda each: each[rows], self.targets))


@dataclass(frozen=True)
class ScoredData:
    """Data of any task, such as segmentation or regression, for networks with any outputs.

    Attributes:
        name: the name in messages.
        train: what repair is calibrated with and networks are trained on.
        search: held out of the training images; rewards see only this split.
        test: for reports, never for a search.
        mean: per channel, of pixels scaled to [0, 1]; () of token ids; of several inputs as of
            `Data`.
        std: per channel, likewise.
        score: ``score(outputs, targets)`` returns a number in [0, 1], higher is better. It gets the
            outputs for a whole split as the network's forward returns them, batches joined along
            the first dimension, and the split's targets.
        chance: score of a guess; the reference point of the accuracy objective.
        metric_name: what the score is called for people; the objective is named accuracy.
        loss: ``loss(outputs, targets)`` returns a tensor of one number, lower is better, which
            fine-tuning follows. It gets the outputs and the targets of a batch. None: the network
            cannot be fine-tuned.
    """

    name: str
    train: ScoredSplit
    search: ScoredSplit
    test: ScoredSplit
    mean: Any
    std: Any
    score: Callable[[Any, Any], float]
    chance: float = 0.0
    metric_name: str = "score"
    num_classes: int = 1  # files of networks hold a number, and there are no classes here
    loss: Callable[[Any, Any], torch.Tensor] | None = None

    def __post_init__(self) -> None:
        """Check that splits and normalization fit together, and that there is a function.

        Raises:
            UserError: a shape does not fit.
            UserTypeError: ``score`` or ``loss`` cannot be called.
        """
        if not callable(self.score):
            raise UserTypeError(
                f"score: expected a function (outputs, targets) -> [0, 1], got {self.score!r}"
            )
        if self.loss is not None and not callable(self.loss):
            raise UserTypeError(
                f"loss: expected a function (outputs, targets) -> tensor, got {self.loss!r}"
            )
        check_shapes([getattr(self, name).images for name in SPLITS])
        mean, std = check_normalization(self.mean, self.std, self.train.images)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)

    def score_of(self, outputs: Iterable[Any], split: ScoredSplit) -> float:
        """Return the score of a network's outputs for the batches of a split, in [0, 1].

        Floating-point outputs are scored in float32, on the processor.

        Raises:
            UserError: the function returns no number in [0, 1].
        """
        first, *others = (tree_map(_on_processor, batch) for batch in outputs)
        joined = tree_map(_joined, first, *others)
        found = self.score(joined, split.targets)
        try:
            number = float(found)
        except (TypeError, ValueError, RuntimeError):
            number = float("nan")
        if not 0 <= number <= 1:
            raise UserError(f"score: expected a number in [0, 1], got {found!r}")
        return number


def _tensor(given: Any) -> torch.Tensor:
    tensor = torch.as_tensor(given).detach().cpu()
    return tensor.float() if tensor.is_floating_point() else tensor


def _on_processor(output: Any) -> Any:
    return _tensor(output) if isinstance(output, torch.Tensor) else output


def _joined(*batches: Any) -> Any:
    return torch.cat(batches) if isinstance(batches[0], torch.Tensor) else batches[0]
