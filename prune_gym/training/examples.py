"""What a network is trained on: batches of each kind of data, and the loss of its outputs."""

from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map

from prune_gym.datasets import AnyData, Data, DetectionData, ScoredData, Split
from prune_gym.datasets.checks import are_ids
from prune_gym.datasets.normalize import normalize
from prune_gym.detection.boxes import size_of
from prune_gym.detection.loss import yolo_loss
from prune_gym.errors import UserError
from prune_gym.graph.inputs import Inputs, Tensors
from prune_gym.training.detection_training import augmented_batch as augmented_scenes
from prune_gym.training.recipe import TrainingRecipe


def check_trainable(data: AnyData, recipe: TrainingRecipe, teacher: nn.Module | None) -> None:
    """Refuse what cannot be trained on.

    Raises:
        UserError: a batch is larger than the training split; the data have a score and no loss; the
            recipe distills and there is no teacher, or there are no classes.
    """
    if recipe.batch_size > len(data.train):
        raise UserError(
            f"a batch of {recipe.batch_size} is larger than the training split of "
            f"{len(data.train)} images: give a smaller batch_size"
        )
    if isinstance(data, ScoredData) and data.loss is None:
        raise UserError(
            f"{data.name} has a score and no loss: give loss=, a function (outputs, targets) -> "
            "tensor of one number"
        )
    if recipe.distillation and not isinstance(data, Data):
        raise UserError(f"the recipe distills, and {data.name} has no classes of images")
    if recipe.distillation and teacher is None:
        raise UserError(f"the recipe distills ({recipe.distillation}): give a teacher")


def batch(
    data: AnyData,
    chosen: np.ndarray,
    rng: np.random.Generator,
    shift: float,
    device: torch.device,
) -> tuple[Tensors, Any]:
    """Return normalized images of the training split, and their labels, objects or targets.

    Images of data with a score stay as they are: their targets would have to move with them. So do
    token ids, and images among several inputs.
    """
    if isinstance(data, ScoredData):
        some = data.train.select(chosen)
        images = normalize(some.images, data, device)
        return images, tree_map(lambda each: each.to(device), some.targets)
    if isinstance(data, DetectionData):
        images, objects = augmented_scenes(data, data.train.select(chosen), rng)
        return images.to(device), objects.to(device)
    if isinstance(data.train.images, Inputs) or are_ids(data.train.images):
        images = normalize(data.train.images[chosen], data, device)
        return images, torch.tensor(data.train.labels[chosen], device=device)
    return augmented_batch(data, data.train, chosen, rng, shift, device)


def augmented_batch(
    data: Data,
    split: Split,
    chosen: np.ndarray,
    rng: np.random.Generator,
    shift: float,
    device: torch.device | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return normalized images of a batch, shifted and mirrored at random, and their labels.

    ``shift`` is the largest share of their height and width, or of what they have in their place;
    they are mirrored along the last dimension if the data say so.
    """
    images = split.images[chosen]
    size, count = images.shape[2:], len(chosen)
    margins = [int(length * shift) for length in size]
    padded = np.pad(images, [(0, 0), (0, 0), *((each, each) for each in margins)], mode="reflect")
    starts = [rng.integers(2 * each + 1, size=(count, 1)) for each in margins]
    places = [start + np.arange(length) for start, length in zip(starts, size, strict=True)]
    if data.flip:
        mirrored = rng.random((count, 1)) < 0.5
        places[-1] = np.where(mirrored, places[-1][:, ::-1], places[-1])
    rank = len(size)
    n = np.arange(count).reshape(-1, *(1,) * rank)
    at = [
        place.reshape(count, *(1,) * dim, -1, *(1,) * (rank - 1 - dim))
        for dim, place in enumerate(places)
    ]
    cropped = np.moveaxis(np.moveaxis(padded, 1, -1)[n, *at], -1, 1)
    return normalize(cropped, data, device), torch.tensor(split.labels[chosen], device=device)


def loss_of(
    network: nn.Module,
    data: AnyData,
    images: Tensors,
    outputs: Any,
    targets: Any,
    recipe: TrainingRecipe,
) -> torch.Tensor:
    """Return the loss of a network's outputs for a batch, a scalar.

    That of a classifier is the cross entropy, that of a detector YOLO's, and data with a score have
    their own.
    """
    if isinstance(data, ScoredData):
        assert data.loss is not None
        return data.loss(tree_map(_in_float, outputs), targets)
    if isinstance(data, DetectionData):
        return yolo_loss(outputs, cast(Any, network).heads, size_of(cast(Any, images)), targets)
    smoothing = recipe.label_smoothing
    return nn.functional.cross_entropy(outputs.float(), targets, label_smoothing=smoothing)


def _in_float(each: Any) -> Any:
    return each.float() if torch.is_tensor(each) and each.is_floating_point() else each
