"""Training the weights that an environment starts from."""

from pathlib import Path

import torch
from rich.console import Console

from prune_gym import datasets, models
from prune_gym.errors import UserError
from prune_gym.evaluation.evaluator import accuracy
from prune_gym.models.weights_file import load_weights, save_weights
from prune_gym.training.checkpoint import delete_checkpoint
from prune_gym.training.recipe import Recipe
from prune_gym.training.training import train


def pretrain(
    network: str, data: str, recipe: Recipe, out: Path, start_from: Path | None, console: Console
) -> None:
    """Train a named network on a named data set and write fp16 weights to ``out``.

    A checkpoint stands beside ``out`` until training ends; the same command goes on from it.

    Args:
        network: a name out of ``prune_gym.models.NETWORKS``.
        data: a name that ``prune_gym.datasets.load`` knows.
        recipe: how to train.
        out: the safetensors file.
        start_from: weights to start from instead of fresh ones.
        console: where to say how it goes.

    Raises:
        UserError: an unknown name, or damaged weights or checkpoint.
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
    console.print(f"Training {network} on {len(loaded.train):,} images of {data}", highlight=False)
    train(net, loaded, recipe, checkpoint)
    net.half().float()  # what the file holds is what is measured
    search, test = (f"{accuracy(net, loaded, split):.4f}" for split in (loaded.search, loaded.test))
    start = f" from {start_from.name}" if start_from else ""
    metadata = {
        "network": network,
        "data": data,
        "search_accuracy": search,
        "test_accuracy": test,
        "recipe": f"{recipe}{start}",
    }
    save_weights(net, out, metadata)
    delete_checkpoint(checkpoint)
    console.print(f"Wrote {out}: accuracy {search} on the search split, {test} on the test split")
