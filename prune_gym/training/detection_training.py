"""Train a detector: AdamW, cosine schedule, bfloat16, checkpoint and resume."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from prune_gym._utils.device import fast_forward, find_device, to_channels_last
from prune_gym._utils.progress import OnProgress, ignore_progress
from prune_gym.compression.depthwise_gradients import fast_gradients
from prune_gym.datasets.detection import DetectionData, DetectionSplit
from prune_gym.datasets.normalize import normalize
from prune_gym.detection.boxes import size_of
from prune_gym.detection.loss import Objects, yolo_loss
from prune_gym.models.darknet.network import Darknet
from prune_gym.training.checkpoint import Training, identity

logger = logging.getLogger(__name__)

SHIFT = 12  # pixels
LEAST_VISIBLE = 0.5  # of an object's area, or it is not learnt
LARGEST_GRADIENT = 10.0


@dataclass(frozen=True)
class DetectorRecipe:
    """How to train a detector: AdamW, a linear warm-up and a cosine to zero."""

    epochs: int
    learning_rate: float = 3e-3
    batch_size: int = 32
    weight_decay: float = 0.02
    warmup_epochs: float = 1.0
    seed: int = 0


def train_detector(
    network: Darknet,
    data: DetectionData,
    recipe: DetectorRecipe,
    checkpoint: Path,
    on_progress: OnProgress = ignore_progress,
    device: str = "auto",
) -> Darknet:
    """Train ``network`` on ``data.train`` in place and return it, in eval mode.

    A checkpoint is written after every epoch; where ``checkpoint`` exists, training goes on from
    it to the same result as if it had not been interrupted. ``on_progress`` is called after every
    epoch with the epochs done and their total. The network is trained on ``device``, one of
    `prune_gym._utils.device.DEVICES`, and stays there.

    Raises:
        UserError: there is no such device; the checkpoint is damaged or belongs to another
            training.
    """
    place = find_device(device)
    to_channels_last(network.to(place))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=recipe.weight_decay)
    rng = np.random.Generator(np.random.PCG64(recipe.seed))
    what = identity(network, network.heads, data.name, recipe)
    training = Training(checkpoint, what, network, optimizer, rng)
    for epoch in range(training.resume(place), recipe.epochs):
        loss = _train_epoch(network, data, optimizer, recipe, epoch, rng, place)
        logger.info("epoch %d/%d  loss %.3f", epoch + 1, recipe.epochs, loss)
        on_progress(epoch + 1, recipe.epochs)
        training.save(epoch + 1)
    return network.eval()


def _train_epoch(
    network: Darknet,
    data: DetectionData,
    optimizer: torch.optim.Optimizer,
    recipe: DetectorRecipe,
    epoch: int,
    rng: np.random.Generator,
    device: torch.device,
) -> float:
    """Take every whole batch once; return the mean loss."""
    network.train()
    order, total = rng.permutation(len(data.train)), 0.0
    steps = len(order) // recipe.batch_size
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(recipe, epoch + step / steps)
        chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
        images, objects = augmented_batch(data, data.train.select(chosen), rng)
        with fast_forward(device), fast_gradients(network):
            maps = network(images.to(device))
        loss = yolo_loss(maps, network.heads, size_of(images), objects.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        total += float(loss.detach())
    return total / steps


def augmented_batch(
    data: DetectionData, split: DetectionSplit, rng: np.random.Generator
) -> tuple[torch.Tensor, Objects]:
    """Return normalized images, shifted, mirrored and with permuted colors, and their objects.

    Images are shifted by up to 12 pixels; where the data allow it they are mirrored and their
    color channels permuted. Objects that are then mostly outside are left out.
    """
    count, channels, height, width = split.images.shape
    shift = rng.integers(-SHIFT, SHIFT + 1, size=(count, 2))
    rows = np.clip(np.arange(height) + shift[:, 1:], 0, height - 1)
    columns = np.clip(np.arange(width) + shift[:, :1], 0, width - 1)
    boxes = split.boxes - np.tile(shift[split.image_ids], 2)
    mirrored = np.logical_and(data.flip, rng.random(count) < 0.5)
    columns[mirrored] = columns[mirrored, ::-1]
    of = mirrored[split.image_ids]
    boxes[of] = boxes[of][:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
    colors = np.tile(np.arange(channels), (count, 1))
    if data.permute_colors:
        colors = rng.permuted(colors, axis=1)
    at = np.arange(count)[:, None, None, None]
    images = split.images[
        at, colors[:, :, None, None], rows[:, None, :, None], columns[:, None, None]
    ]
    inside = np.clip(boxes, 0, [width, height, width, height])
    visible = _areas(inside) >= LEAST_VISIBLE * _areas(boxes)
    objects = Objects(
        torch.from_numpy(inside[visible].astype(np.float32)),
        torch.from_numpy(split.classes[visible]),
        torch.from_numpy(split.image_ids[visible]),
    )
    return normalize(images, data), objects


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def _learning_rate(recipe: DetectorRecipe, epoch: float) -> float:
    warmth = min((epoch + 0.01) / (recipe.warmup_epochs + 0.01), 1.0)
    return recipe.learning_rate * warmth * 0.5 * (1 + float(np.cos(np.pi * epoch / recipe.epochs)))
