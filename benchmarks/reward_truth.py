"""Does the accuracy that a search sees predict the accuracy after fine-tuning?

    PRUNE_GYM_HOME=... python benchmarks/reward_truth.py --out DIR --network vgg16 --flops 0.2

Draws strategies with about the same multiply-adds (within 5 % below ``--flops``), widths rising,
falling or level over the depth, with noise. Each is scored on the search split without training,
once for every kind of repair, and then fine-tuned from its least-squares repair for ``--epochs``
epochs. Printed is Spearman's rank correlation of both accuracies for every repair, with a bootstrap
95 % interval over the strategies. What is there already is not done again.
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from cifar10 import ENVS
from scipy.stats import spearmanr

import prune_gym  # noqa: F401  (registers the ids)
from prune_gym.compression.repair import REPAIRS
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.evaluation.evaluator import accuracy
from prune_gym.training.checkpoint import delete_checkpoint
from prune_gym.training.finetune import finetune_candidate
from prune_gym.training.recipe import load_recipe

BAND = 0.95  # of the allowed multiply-adds
SLOPE, NOISE = 0.6, 0.3  # in units of actions


def draw(env: CompressionEnv, share: float, count: int, seed: int) -> np.ndarray:
    """Return the values of ``count`` strategies within the band, ``(count, decisions)``."""
    rng, found = np.random.default_rng(seed), []
    full = env.problem.space.configure(env.problem.space.upper[None])
    flops, depth = env.problem.costs["flops"], np.linspace(-1, 1, len(env.problem.decisions))
    while len(found) < count:
        wanted = rng.uniform(-1, 1) + rng.uniform(-SLOPE, SLOPE) * depth
        actions = np.clip(wanted + rng.normal(0, NOISE, len(depth)), -1, 1)
        values = env.problem.space.decode(actions)
        left = float((flops(env.problem.space.configure(values[None])) / flops(full))[0])
        if BAND * share <= left <= share:
            found.append(values)
    return np.array(found)


def measure(options: argparse.Namespace, envs: dict[str, CompressionEnv]) -> list[dict[str, Any]]:
    """Return a row for every strategy, reading those that are in the file and adding the rest."""
    rows: list[dict[str, Any]] = []
    file = options.out / f"{options.network}-flops{options.flops:g}.csv"
    if file.is_file():
        rows = list(csv.DictReader(file.open()))
    env = envs["least_squares"]
    recipe = replace(load_recipe(options.recipe), epochs=options.epochs)
    strategies = draw(env, options.flops, options.strategies, options.seed)
    for number, values in enumerate(strategies[len(rows) :], start=len(rows)):
        configuration = env.problem.space.configure(values[None])
        row: dict[str, Any] = {"strategy": number, "epochs": options.epochs}
        row["flops"] = float(env.problem.costs["flops"](configuration)[0])
        row |= {
            repair: each.problem.evaluator.accuracy(configuration) for repair, each in envs.items()
        }
        checkpoint = file.with_name(f"{file.stem}-{number}.checkpoint")
        network = finetune_candidate(env.problem.evaluator, configuration, recipe, checkpoint).last
        data = env.problem.evaluator.data
        row |= {f"tuned_{s}": accuracy(network, data, getattr(data, s)) for s in ("search", "test")}
        row["widths"] = " ".join(f"{value:g}" for value in values)
        rows.append(row)
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(row), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        delete_checkpoint(checkpoint)
        print(row, flush=True)
    return rows


def correlation(seen: np.ndarray, tuned: np.ndarray) -> str:
    """Return Spearman's rank correlation with its bootstrap interval, for people."""
    if len(set(seen)) == 1 or len(set(tuned)) == 1:
        return "undefined: all are alike"
    rng = np.random.default_rng(0)
    samples = [
        spearmanr(seen[chosen], tuned[chosen]).statistic
        for chosen in rng.integers(len(seen), size=(2000, len(seen)))
        if len(set(seen[chosen])) > 1 and len(set(tuned[chosen])) > 1
    ]
    low, high = np.quantile(samples, (0.025, 0.975))
    return f"{spearmanr(seen, tuned).statistic:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, required=True)
    add("--network", choices=ENVS, default="vgg16")
    add("--flops", type=float, default=0.2)
    add("--strategies", type=int, default=12)
    add("--recipe", default="short")
    add("--epochs", type=int, default=3)
    add("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    envs: dict[str, Any] = {
        repair: gym.make(ENVS[options.network], repair=repair).unwrapped for repair in REPAIRS
    }
    rows = measure(options, envs)
    for split in ("search", "test"):
        tuned = np.array([float(row[f"tuned_{split}"]) for row in rows])
        print(f"after fine-tuning, {split} split: {tuned.min():.4f} to {tuned.max():.4f}")
        for repair in REPAIRS:
            seen = np.array([float(row[repair]) for row in rows])
            spread = f"{seen.min():.3f} to {seen.max():.3f}"
            print(f"  {repair:<18}{spread}  rank correlation {correlation(seen, tuned)}")


if __name__ == "__main__":
    main()
