"""Training a network: augmentation, cosine schedule, bfloat16, checkpoint and resume."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from prune_gym.datasets import Data, Split
from prune_gym.deploy.checkpoint import Training, identity
from prune_gym.evaluate import accuracy
from prune_gym.network.images import normalised
from prune_gym.network.precision import fast_forward


@dataclass(frozen=True)
class Recipe:
    """How to train: SGD with Nesterov momentum, one linear warm-up and a cosine to zero."""

    epochs: int
    learning_rate: float = 0.1
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    warmup_epochs: float = 1.0
    seed: int = 0


def train(network: nn.Module, data: Data, recipe: Recipe, checkpoint: Path) -> nn.Module:
    """Train ``network`` on ``data.train`` in place and return it, in eval mode.

    A checkpoint is written after every epoch; where ``checkpoint`` exists, training goes on from
    it to the same result as if it had not been interrupted.

    Raises:
        ValueError: the checkpoint is damaged or belongs to another training.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )
    rng = np.random.Generator(np.random.PCG64(recipe.seed))
    steps = len(data.train) // recipe.batch_size
    what = identity(network, network, data.name, recipe)
    training = Training(checkpoint, what, network, optimizer, rng)
    done = training.resume(device)
    with _progress() as progress:
        for epoch in range(done, recipe.epochs):
            task = progress.add_task(f"epoch {epoch + 1}/{recipe.epochs}", total=steps)
            network.train()
            order = rng.permutation(len(data.train))
            for step in range(steps):
                rate = _learning_rate(recipe, epoch + step / steps)
                chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
                images, labels = augmented_batch(data, data.train, chosen, rng)
                _step(network, optimizer, images.to(device), labels.to(device), rate, recipe)
                progress.advance(task)
            network.eval()
            top1 = accuracy(network, data, data.search)
            progress.console.print(f"epoch {epoch + 1}/{recipe.epochs}  search accuracy {top1:.4f}")
            training.save(epoch + 1)
    return network.eval()


def augmented_batch(
    data: Data, split: Split, chosen: np.ndarray, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return normalised images of a batch, shifted by up to 4 pixels and mirrored, and labels."""
    images = split.images[chosen]
    height, width = images.shape[2:]
    padded = np.pad(images, ((0, 0), (0, 0), (4, 4), (4, 4)), mode="reflect")
    n = np.arange(len(chosen))[:, None, None]
    rows = rng.integers(9, size=(len(chosen), 1, 1)) + np.arange(height)[:, None]
    columns = rng.integers(9, size=(len(chosen), 1, 1)) + np.arange(width)
    if data.flip:
        mirrored = rng.random((len(chosen), 1, 1)) < 0.5
        columns = np.where(mirrored, columns[..., ::-1], columns)
    cropped = np.moveaxis(padded.transpose(0, 2, 3, 1)[n, rows, columns], -1, 1)
    return normalised(cropped, data), torch.from_numpy(split.labels[chosen])


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    rate: float,
    recipe: Recipe,
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    with fast_forward(images.device.type):
        logits = network(images)
    loss = nn.functional.cross_entropy(
        logits.float(), labels, label_smoothing=recipe.label_smoothing
    )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def _learning_rate(recipe: Recipe, epoch: float) -> float:
    if epoch < recipe.warmup_epochs:
        return recipe.learning_rate * (epoch + 0.01) / (recipe.warmup_epochs + 0.01)
    share = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
    return recipe.learning_rate * 0.5 * (1 + float(np.cos(np.pi * share)))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )
