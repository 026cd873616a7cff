"""Accuracy without retraining against keep ratio, for every repair, and what the repair costs.

    PRUNE_GYM_HOME=... python benchmarks/repair.py [--images 10000] [--networks VGG16]

VGG16 on CIFAR-10: all 13 groups. ResNet-20 and ResNet-56 with the public weights (weights/ in the
data home): the groups inside the blocks. Top-1 in % on the first test images; seconds are those of
cutting and repairing one candidate, the longest of the ratios.

The last three rows are the method of GRAIL (Tang et al. 2026, PMLR 328:881-895), by an
implementation of its description: the filters of the smallest L2 norm go; every layer that reads
them gets the linear mix of the kept channels that fits best on the calibration images of the
original; batch-norm's running averages are then taken from training images.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from prune_gym import datasets, models
from prune_gym._utils.paths import data_home
from prune_gym.compression.repair import REPAIRS
from prune_gym.datasets import Data, Split
from prune_gym.datasets.normalize import normalize
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.evaluation.task import make_evaluator
from prune_gym.graph.configuration import Configuration
from prune_gym.models.resnet import resnet20, resnet56

BATCHES, BATCH = 40, 128  # for running averages with momentum 0.1: the last ten count
PUBLIC = {"ResNet-20": (resnet20, "resnet20-12fca82f.th")} | {
    "ResNet-56": (resnet56, "resnet56-4bfd9763.th")
}


def load(name: str) -> tuple[nn.Module, Data, tuple[float, ...]]:
    """Return a network, CIFAR-10 with the normalization it was trained with, and keep ratios."""
    cifar10 = datasets.load("cifar10")
    if name == "VGG16":
        return models.pretrained("vgg16", "cifar10", 10), cifar10, (0.75, 0.5, 0.35, 0.25)
    build, file = PUBLIC[name]
    path = data_home() / "weights" / file
    state = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    network = build()
    network.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return network, dataclasses.replace(cifar10, mean=mean, std=std), (0.8, 0.65, 0.5, 0.35)


def strategy(evaluator: Evaluator, ratio: float) -> Configuration:
    """Return the widths at a keep ratio; groups of residual streams stay whole."""
    table = evaluator.table
    inner = [sum(member.dim == "out" for member in group.members) == 2 for group in table.groups]
    return table.configuration(
        np.where(inner, np.round(ratio * table.full), table.full).astype(int)[None]
    )


def by_norm(evaluator: Evaluator) -> tuple[np.ndarray, ...]:
    """Return the channels of every group, those of the largest L2 norm of their filter first."""
    orders = []
    for group in evaluator.table.groups:
        first = next(member for member in group.members if member.dim == "out")
        weight = evaluator.network.get_submodule(first.module).get_parameter("weight").detach()
        norms = weight.flatten(1).norm(dim=1)[first.positions[:, 0]].numpy()
        orders.append(np.argsort(-norms, kind="stable"))
    return tuple(orders)


def average_batch_norm(candidate: nn.Module, data: Data) -> None:
    """Take batch-norm's running averages from batches of training images, in place."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(data.train), generator=generator)[: BATCHES * BATCH].numpy()
    candidate.train()
    with torch.no_grad():
        for rows in np.split(chosen, BATCHES):
            candidate(normalize(data.train.images[rows], data))
    candidate.eval()


def measure(
    evaluator: Evaluator, ratio: float, split: Split, then: Callable[[nn.Module], None]
) -> tuple[float, float]:
    """Return a candidate's accuracy, and the seconds that it took to make it."""
    start = time.perf_counter()
    candidate = evaluator.candidate(strategy(evaluator, ratio))
    then(candidate)
    seconds = time.perf_counter() - start
    return evaluator.score(candidate, split), seconds


def main() -> None:
    """Print one table per network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000)
    parser.add_argument("--networks", nargs="+", default=["VGG16", *PUBLIC])
    options = parser.parse_args()
    for name in options.networks:
        network, data, ratios = load(name)
        images, labels = (
            part[: options.images].copy() for part in (data.test.images, data.test.labels)
        )
        test, evaluator = Split(images, labels), make_evaluator(network, data, "least_squares")
        print(f"{name}: original {100 * evaluator.score(evaluator.network, test):.1f}")
        print(f"{'keep ratio':<20}" + "".join(f"{ratio:>8}" for ratio in ratios) + " seconds")
        assert evaluator.original.reference  # measured once, and not part of a candidate's time
        ours, norms = evaluator.calibration.orders, by_norm(evaluator)
        nothing, averages = (lambda _: None), partial(average_batch_norm, data=data)
        rows = [(repair, repair, ours, nothing) for repair in REPAIRS] + [
            ("L2 norm", "none", norms, nothing),
            ("GRAIL", "merge", norms, nothing),
            ("GRAIL + batch-norm", "merge", norms, averages),
        ]
        for title, repair, orders, then in rows:
            evaluator.repair = repair
            evaluator.calibration = dataclasses.replace(evaluator.calibration, orders=orders)
            found = [measure(evaluator, ratio, test, then) for ratio in ratios]
            row = "".join(f"{100 * accuracy:8.1f}" for accuracy, _ in found)
            print(f"{title:<20}{row}{max(s for _, s in found):8.2f}", flush=True)


if __name__ == "__main__":
    main()
