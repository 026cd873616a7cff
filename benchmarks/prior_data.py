"""Evaluated strategies of many small networks: what a prior of accuracy is learned from.

    python benchmarks/prior_data.py --out DIR [--networks 24]

Networks of three families are drawn at random (plain, residual, inverted residual), trained on the
digits for a random number of epochs, and each gets tens of evaluated strategies in two search
spaces. So do a few shipped ids. A file of DIR holds the weights of one network, or the values
and accuracies of the strategies of one network in one space; what is there is not made again.
"""

import argparse
import dataclasses
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

import prune_gym  # noqa: F401  (registers the ids)
from prune_gym import datasets
from prune_gym.agents.common.initial_design import random_ratio, van_der_corput
from prune_gym.datasets import Data, Split
from prune_gym.envs.make import compression_problem
from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.models.mobilenet_v2 import InvertedResidual
from prune_gym.models.resnet import BasicBlock
from prune_gym.models.vgg import VGG
from prune_gym.models.weights_file import load_weights, save_weights
from prune_gym.training.recipe import TrainingRecipe
from prune_gym.training.training import train

SEARCH_IMAGES = 1_000
# Name -> what is decided and wanted, and how many strategies are evaluated.
SPACES: dict[str, tuple[int, dict[str, Any]]] = {
    "channels": (16, {"decide": ("channels",), "objectives": ("accuracy", "flops", "memory")}),
    "joint": (
        16,
        {"decide": ("channels", "density"), "objectives": ("accuracy", "flops", "size")},
    ),
}
IDS = {
    "plain": ("ChannelPrune-Table-v0",),
    "residual": ("ChannelPrune-ResNet20-v0", "JointPrune-ResNet20-v0"),
    "mobile": ("ChannelPrune-MobileNetV2-v0",),
}
OF_AN_ID = 25  # strategies
LOSSES = (0.001, 0.6)  # of output energy, a decision
SPREAD = 0.7  # of their logarithms within a strategy


class Residual(nn.Module):
    """A convolution, some residual blocks and a linear layer."""

    def __init__(self, stem: nn.Module, blocks: list[nn.Module], channels: int) -> None:
        """Put the parts together; the last block has ``channels`` outputs."""
        super().__init__()
        self.features = nn.Sequential(stem, *blocks)
        self.classifier = nn.Linear(channels, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalized images (N, 3, 16, 16) to logits (N, 10)."""
        return self.classifier(self.features(images).mean((2, 3)))


def plain(rng: np.random.Generator) -> nn.Module:
    """Return 4 to 10 convolutions, as VGG has them."""
    plan: list[int | str] = []
    for stage in range(4):
        width = 8 * int(rng.integers(1 + stage // 2, 5 + stage))
        plan += [width] * (1 if stage == 0 else int(rng.integers(1, 4)))
        plan.append("pool")
    return VGG(tuple(plan), 10)


def residual(rng: np.random.Generator) -> nn.Module:
    """Return 3 to 9 residual blocks of two convolutions, in three stages."""
    channels = 8 * int(rng.integers(1, 4))
    blocks: list[nn.Module] = []
    stem = _stem(channels)
    for stage in range(3):
        for block in range(int(rng.integers(1, 4))):
            width = channels + 8 * int(rng.integers(1, 4)) if stage and not block else channels
            blocks.append(BasicBlock(channels, width, 2 if stage and not block else 1))
            channels = width
    return Residual(stem, blocks, channels)


def mobile(rng: np.random.Generator) -> nn.Module:
    """Return 3 to 8 inverted residual blocks, in three stages."""
    channels = 8 * int(rng.integers(1, 4))
    blocks: list[nn.Module] = []
    stem, expansion = _stem(channels), int(rng.integers(2, 6))
    for stage in range(3):
        for block in range(int(rng.integers(1, 4 if stage else 3))):
            width = channels + 8 * int(rng.integers(0, 3)) if not block else channels
            blocks.append(
                InvertedResidual(channels, width, 2 if stage and not block else 1, expansion)
            )
            channels = width
    return Residual(stem, blocks, channels)


FAMILIES = {"plain": plain, "residual": residual, "mobile": mobile}


def _stem(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


@cache
def small_digits() -> Data:
    """Return the digits at half the size, with half of the search split."""
    data = datasets.load("digits")
    assert isinstance(data, Data)
    splits = {
        name: Split(_halved(split.images[:most]), split.labels[:most].copy())
        for name, most in (("train", None), ("search", SEARCH_IMAGES), ("test", None))
        for split in [getattr(data, name)]
    }
    return dataclasses.replace(data, **splits)


def _halved(images: np.ndarray) -> np.ndarray:
    n, channels, height, width = images.shape
    cells = images.reshape(n, channels, height // 2, 2, width // 2, 2)
    return cells.mean(axis=(3, 5)).astype(np.uint8)


def network(name: str, folder: Path) -> nn.Module:
    """Return a random network, ``FAMILY-NUMBER``, trained; its weights are kept in the folder."""
    family, number = name.split("-")
    rng = np.random.default_rng(int(number))
    with torch.random.fork_rng():
        torch.manual_seed(int(number))
        made = FAMILIES[family](rng)
    file = folder / f"{name}.safetensors"
    if not file.is_file():
        epochs = round(np.exp(rng.uniform(np.log(2.5), np.log(6))))
        recipe = TrainingRecipe(epochs, learning_rate=0.05, batch_size=100, seed=int(number))
        checkpoint = file.with_suffix(".checkpoint")
        train(made, small_digits(), recipe, checkpoint)
        save_weights(made, file, {"network": name, "recipe": str(recipe)})
        for each in folder.glob(f"{checkpoint.name}*"):
            each.unlink()
    load_weights(made, file)
    return made.eval()


def problem_of(task: str, folder: Path) -> CompressionProblem:
    """Return the problem of an id or of ``FAMILY-NUMBER.SPACE``."""
    if task.endswith("-v0"):
        return gym.make(task).unwrapped.problem  # type: ignore[attr-defined]
    name, space = task.split(".")
    made = network(name, folder)
    return compression_problem(made, small_digits(), latency=None, round_to=4, **SPACES[space][1])


def strategies(problem: CompressionProblem, count: int, seed: int) -> np.ndarray:
    """Return distinct strategies, (n, decisions): of equal losses, random and uniform ratios."""
    rng, space = np.random.default_rng(seed), problem.space
    losses = np.exp(rng.uniform(*np.log(LOSSES), (count * 3 // 5, 1)))
    losses = losses * np.exp(rng.normal(0, SPREAD, (len(losses), len(space))))
    equal = np.empty_like(losses)
    for index, decision in enumerate(space.decisions):
        # The smallest option that loses no more.
        within = (decision.sensitivity <= losses[:, index, None]).argmax(axis=1)
        equal[:, index] = decision.options[within]
    sweep = van_der_corput(count // 5)[:, None] * np.full(len(space), 2.0) - 1
    ratios = [random_ratio(rng, len(space)) for _ in range(count // 5)]
    spread = space.decode(np.concatenate([sweep, ratios]))
    return np.unique(space.canonicalise(np.concatenate([equal, spread])), axis=0)


def tasks(networks: int) -> Iterator[tuple[str, str, int]]:
    """Yield every task with its family and how many strategies it gets."""
    for number in range(networks):
        family = [*FAMILIES][number % len(FAMILIES)]
        for space, (count, _) in SPACES.items():
            yield family, f"{family}-{number:03}.{space}", count
    for family, ids in IDS.items():
        for env_id in ids:
            yield family, env_id, OF_AN_ID


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", type=int, default=24)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for _, task, count in tasks(options.networks):
        file = options.out / f"{task}.data.safetensors"
        if file.is_file():
            continue
        problem = problem_of(task, options.out)
        values = strategies(problem, count, zlib.crc32(task.encode()))
        accuracies = problem.accuracies(values)
        original = np.array([problem.original["accuracy"]])
        save_file({"values": values, "accuracies": accuracies, "original": original}, file)
        print(f"{task}: original {original[0]:.3f}, {len(values)} strategies", flush=True)


if __name__ == "__main__":
    main()
