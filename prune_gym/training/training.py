"""Train a network: cosine schedule, distillation, bfloat16, resume."""

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prune_gym._utils.device import device_of, fast_forward, find_device, to_channels_last
from prune_gym._utils.progress import OnProgress, ignore_progress
from prune_gym.compression.depthwise_gradients import fast_gradients
from prune_gym.datasets import AnyData
from prune_gym.evaluation.evaluator import accuracy
from prune_gym.graph.inputs import Tensors, feed
from prune_gym.training.checkpoint import Training, identity
from prune_gym.training.examples import batch, check_trainable, loss_of
from prune_gym.training.history import History
from prune_gym.training.optimizer import make_optimizer
from prune_gym.training.recipe import TrainingRecipe

logger = logging.getLogger(__name__)


def train(
    network: nn.Module,
    data: AnyData,
    recipe: TrainingRecipe,
    checkpoint: Path,
    *,
    teacher: nn.Module | None = None,
    history: History | None = None,
    on_progress: OnProgress = ignore_progress,
    device: str = "auto",
) -> nn.Module:
    """Train ``network`` on ``data.train`` in place and return it, in eval mode.

    A checkpoint is written after every epoch; where ``checkpoint`` exists, training goes on from
    it to the same result as if it had not been interrupted.

    Args:
        network: what is trained.
        data: what it is trained on; the search split chooses the best epoch.
        recipe: how.
        checkpoint: the file.
        teacher: a network in eval mode whose answers are learned from, where the recipe distills.
        history: gets every epoch's figures and the best weights.
        on_progress: called after every step with the steps done and their total.
        device: where to train, "auto", "cpu", "cuda" or "mps"; the network
            stays there.

    Raises:
        UserError: there is no such device; the checkpoint is damaged or belongs to another
            training; a batch is larger than the training split; the data have a score and no loss;
            the recipe distills and there is no teacher, or there are no classes.
    """
    check_trainable(data, recipe, teacher)
    place = find_device(device)
    for each in filter(None, (network, teacher)):
        to_channels_last(each.to(place))
    optimizer = make_optimizer(network, recipe)
    rng = np.random.Generator(np.random.PCG64(recipe.seed))
    what = identity(network, network, data.name, recipe)
    history = history or History()
    training = Training(checkpoint, what, network, optimizer, rng, history)
    steps, done = len(data.train) // recipe.batch_size, training.resume(place)
    total = steps * recipe.epochs
    for epoch in range(done, recipe.epochs):
        started, before = time.perf_counter(), steps * epoch
        on_progress(before, total)
        report = partial(_report, on_progress, before, total)
        figures = _epoch(network, optimizer, data, recipe, epoch, rng, teacher, report)
        score = accuracy(network, data, data.search)
        seconds = time.perf_counter() - started
        logger.info(
            "epoch %d/%d  loss %.4f  search accuracy %.4f  %.0f s",
            *(epoch + 1, recipe.epochs, figures["loss"], score, seconds),
        )
        history.add({"search_accuracy": score, **figures, "seconds": seconds}, network)
        training.save(epoch + 1)
    return network.eval()


def _epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: AnyData,
    recipe: TrainingRecipe,
    epoch: int,
    rng: np.random.Generator,
    teacher: nn.Module | None,
    on_step: Callable[[int], object],
) -> dict[str, float]:
    """Take every whole batch once; return the mean loss and the last learning rate."""
    device = device_of(network)
    network.train()
    order, total, rate = rng.permutation(len(data.train)), 0.0, 0.0
    steps = len(order) // recipe.batch_size
    for step in range(steps):
        rate = _learning_rate(recipe, epoch + step / steps)
        chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
        images, targets = batch(data, chosen, rng, recipe.shift, device)
        total += training_step(network, optimizer, data, images, targets, rate, recipe, teacher)
        on_step(step + 1)
    network.eval()
    return {"loss": total / steps, "learning_rate": rate}


def training_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: AnyData,
    images: Tensors,
    targets: Any,
    rate: float,
    recipe: TrainingRecipe,
    teacher: nn.Module | None,
) -> float:
    """Make one step and return the loss before it."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    with fast_forward(images.device), fast_gradients(network):
        outputs = feed(network, images)
    loss = loss_of(network, data, images, outputs, targets, recipe)
    if teacher is not None and recipe.distillation:
        with torch.no_grad(), fast_forward(images.device):
            taught = feed(teacher, images).float()
        share = recipe.distillation
        far = divergence(outputs.float(), taught, recipe.temperature)
        loss = (1 - share) * loss + share * far
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def divergence(logits: torch.Tensor, taught: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return how far logits (N, classes) are from a teacher's: Kullback-Leibler, times T squared.

    The factor keeps gradients as large as those of the labels at every temperature (Hinton, Vinyals
    & Dean 2015, section 2).
    """
    ours, theirs = (torch.log_softmax(each / temperature, 1) for each in (logits, taught))
    kl = nn.functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return kl * temperature**2


def _learning_rate(recipe: TrainingRecipe, epoch: float) -> float:
    if epoch < recipe.warmup_epochs:
        return recipe.learning_rate * (epoch + 0.01) / (recipe.warmup_epochs + 0.01)
    share = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
    return recipe.learning_rate * 0.5 * (1 + float(np.cos(np.pi * share)))


def _report(on_progress: OnProgress, before: int, total: int, step: int) -> None:
    """Report a step of an epoch that began after ``before`` steps."""
    on_progress(before + step, total)
