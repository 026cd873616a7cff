"""Accuracy without retraining against keep ratio, for every repair, and what the repair costs.

    PRUNE_GYM_HOME=... python benchmarks/repair.py [--images 1000] [--networks VGG16]

VGG16 on CIFAR-10: all 13 groups. ResNet-20 and ResNet-56 with the public weights (weights/ in the
data home): the groups inside the blocks. Top-1 in % on the first test images; seconds are those of
cutting and repairing one candidate, the longest of the ratios.
"""

import argparse
import dataclasses
import time

import numpy as np
import torch
from torch import nn

from prune_gym import datasets, models
from prune_gym._utils.paths import data_home
from prune_gym.compression.repair import REPAIRS
from prune_gym.datasets import Data, Split
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.evaluation.task import make_evaluator
from prune_gym.graph.configuration import Configuration
from prune_gym.models.resnet import resnet20, resnet56

PUBLIC = {"ResNet-20": (resnet20, "resnet20-12fca82f.th")} | {
    "ResNet-56": (resnet56, "resnet56-4bfd9763.th")
}


def load(name: str) -> tuple[nn.Module, Data, tuple[float, ...]]:
    """Return a network, CIFAR-10 with the normalisation it was trained with, and keep ratios."""
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


def measure(evaluator: Evaluator, ratio: float, split: Split) -> tuple[float, float]:
    """Return a candidate's accuracy, and the seconds that it took to make it."""
    start = time.perf_counter()
    candidate = evaluator.candidate(strategy(evaluator, ratio))
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
        assert evaluator.reference  # measured once, and not part of a candidate's time
        for repair in REPAIRS:
            evaluator.repair = repair
            found = [measure(evaluator, ratio, test) for ratio in ratios]
            row = "".join(f"{100 * accuracy:8.1f}" for accuracy, _ in found)
            print(f"{repair:<20}{row}{max(s for _, s in found):8.2f}", flush=True)


if __name__ == "__main__":
    main()
