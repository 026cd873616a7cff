"""Accuracy without retraining against keep ratio, for every repair, and what the repair costs.

    PRUNE_GYM_HOME=... python benchmarks/repair.py [--images 10000] [--networks VGG16]

VGG16 on CIFAR-10: all 13 groups. ResNet-20, and ResNet-56 with its public weights: the groups
inside the blocks. Top-1 in % on the first test images; seconds are those of cutting and repairing
one candidate, the longest of the ratios.

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
from prune_gym.compression.repair import REPAIRS
from prune_gym.datasets import Data, Split
from prune_gym.datasets.normalize import normalize
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.evaluation.task import make_evaluator
from prune_gym.graph.configuration import Configuration

BATCHES, BATCH = 40, 128  # for running averages with momentum 0.1: the last ten count
NETWORKS = {
    "VGG16": ("vgg16", (0.75, 0.5, 0.35, 0.25)),
    "ResNet-20": ("resnet20", (0.8, 0.65, 0.5, 0.35)),
    "ResNet-56": ("resnet56", (0.8, 0.65, 0.5, 0.35)),
}


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
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    options = parser.parse_args()
    for name in options.networks:
        network, ratios = NETWORKS[name]
        data = models.normalized_for(network, datasets.load("cifar10"))
        images, labels = (
            part[: options.images].copy() for part in (data.test.images, data.test.labels)
        )
        test, original = Split(images, labels), models.pretrained(network, "cifar10", 10)
        evaluator = make_evaluator(original, data, "least_squares")
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
