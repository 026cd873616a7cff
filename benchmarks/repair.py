"""Accuracy without retraining against keep ratio, for every repair.

    PRUNE_GYM_HOME=... python benchmarks/repair.py [--images 1000]

VGG16 on CIFAR-10: all 13 groups. ResNet-56 with the public weights (weights/resnet56-4bfd9763.th in
the data home): the groups inside the blocks. Top-1 in % on the first test images.
"""

import argparse
import dataclasses

import numpy as np
import torch
from torch import nn

from prune_gym import datasets, models
from prune_gym.datasets import Data, Split
from prune_gym.evaluate import Evaluator
from prune_gym.models.resnet import resnet56
from prune_gym.network.repair import REPAIRS
from prune_gym.paths import data_home
from prune_gym.task import make_evaluator


def resnet56_cifar10() -> tuple[nn.Module, Data]:
    """Return the public ResNet-56 and CIFAR-10 with the normalisation it was trained with."""
    path = data_home() / "weights" / "resnet56-4bfd9763.th"
    state = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    network = resnet56()
    network.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return network, dataclasses.replace(datasets.load("cifar10"), mean=mean, std=std)


def widths(evaluator: Evaluator, ratio: float) -> np.ndarray:
    """Return the widths at a keep ratio; groups of residual streams stay whole."""
    inner = [
        sum(member.dim == "out" for member in group.members) == 2
        for group in evaluator.table.groups
    ]
    return np.where(inner, np.round(ratio * evaluator.table.full), evaluator.table.full).astype(int)


def main() -> None:
    """Print one table per network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000)
    images = parser.parse_args().images
    cifar10 = datasets.load("cifar10")
    for name, (network, data), ratios in (
        ("VGG16", (models.pretrained("vgg16", "cifar10", 10), cifar10), (0.75, 0.5, 0.35, 0.25)),
        ("ResNet-56", resnet56_cifar10(), (0.8, 0.65, 0.5, 0.35)),
    ):
        test = Split(data.test.images[:images].copy(), data.test.labels[:images].copy())
        evaluator = make_evaluator(network, data, "none")
        print(f"{name}: original {100 * evaluator.score(network, test):.1f}")
        print(f"{'keep ratio':<20}" + "".join(f"{ratio:>8}" for ratio in ratios))
        for repair in REPAIRS:
            evaluator.repair = repair
            top1 = [
                evaluator.score(evaluator.candidate(widths(evaluator, r)), test) for r in ratios
            ]
            print(f"{repair:<20}" + "".join(f"{100 * value:8.1f}" for value in top1), flush=True)


if __name__ == "__main__":
    main()
