"""Train the weights that an environment starts from."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from prune_gym import datasets, models
from prune_gym._utils.progress import OnProgress, ignore_progress
from prune_gym.errors import UserError, unknown
from prune_gym.evaluation.evaluator import accuracy
from prune_gym.models.weights_file import load_weights, save_weights
from prune_gym.training.checkpoint import delete_checkpoint
from prune_gym.training.recipe import TrainingRecipe, load_recipe
from prune_gym.training.training import train

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrained:
    """A finished training.

    Attributes:
        file: the weights.
        search: accuracy, or a detector's mAP@0.5, on the search split.
        test: the same on the test split.
    """

    file: Path
    search: float
    test: float


def recipe_of(network: str, **changes: Any) -> TrainingRecipe:
    """Return the recipe that a named network is trained with from fresh weights.

    Args:
        network: a name out of ``prune_gym.models.NETWORKS``.
        changes: fields that replace those of the recipe.

    Raises:
        UserError: no such network, or a value out of range.
    """
    if network not in models.NETWORKS:
        raise UserError(unknown("network", network, models.NETWORKS))
    return load_recipe(models.NETWORKS[network].recipe, **changes)


def pretrain(
    network: str,
    data: str,
    recipe: TrainingRecipe,
    out: Path,
    start_from: Path | None = None,
    on_progress: OnProgress = ignore_progress,
    device: str = "auto",
) -> Pretrained:
    """Train a named network on a named data set and write fp16 weights to ``out``.

    A checkpoint stands beside ``out`` until training ends; the same command goes on from it.

    Args:
        network: a name out of ``prune_gym.models.NETWORKS``.
        data: a name that ``prune_gym.datasets.load`` knows.
        recipe: how to train.
        out: the safetensors file.
        start_from: weights to start from instead of fresh ones.
        on_progress: called after every step with the steps done and their total.
        device: where to train, "auto", "cpu", "cuda" or "mps".

    Raises:
        UserError: an unknown name or device, or damaged weights or checkpoint.
    """
    loaded = datasets.load(data)
    if not isinstance(loaded, datasets.Data):
        raise UserError(f"{data} is for detectors; train one with `prune-gym pretrain-detector`")
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        net = models.build(network, loaded.num_classes)
    if start_from is not None:
        load_weights(net, start_from)
    checkpoint = out.with_suffix(".checkpoint")
    logger.info("Training %s on %s images of %s", network, f"{len(loaded.train):,}", data)
    train(net, loaded, recipe, checkpoint, on_progress=on_progress, device=device)
    net.half().float()  # what the file holds is what is measured
    search, test = (accuracy(net, loaded, split) for split in (loaded.search, loaded.test))
    start = f" from {start_from.name}" if start_from else ""
    metadata = {
        "network": network,
        "data": data,
        "search_accuracy": f"{search:.4f}",
        "test_accuracy": f"{test:.4f}",
        "recipe": f"{recipe}{start}",
    }
    save_weights(net, out, metadata)
    delete_checkpoint(checkpoint)
    return Pretrained(out, search, test)
