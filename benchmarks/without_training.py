"""Accuracy without training against multiply-adds: a table of one network.

    PRUNE_GYM_HOME=... python benchmarks/without_training.py --keep 0.9 0.8 0.7 0.58 0.5
    python benchmarks/without_training.py --env ChannelPrune-VGG16-v0 --out table.csv

For every share of the multiply-adds an agent searches strategies that keep no more of them. The one
with the highest accuracy on the search split is taken, and its network is measured on the test
split, in float32. Nothing is trained; candidates are repaired with training images whose labels
nobody looks at. The search split is held out of the training images; the test split is only
measured on.
"""

import argparse
import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path

from prune_gym._utils.device import DEVICES, on_device
from prune_gym.compression.calibration import IMAGES
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.envs.make import make_env
from prune_gym.evaluation.evaluator import accuracy
from prune_gym.experiments.evaluated_strategy import EvaluatedStrategy
from prune_gym.experiments.folder import RunFolder
from prune_gym.experiments.record import RecordRun
from prune_gym.experiments.run_agent import run_agent
from prune_gym.experiments.run_config import RunConfig

HEADER = ("keep", "multiply_adds", "parameters", "search_accuracy", "test_accuracy")
Row = tuple[float, float, float, float, float]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="ChannelPrune-ResNet50-ImageNet-v0")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.9, 0.8, 0.7, 0.58, 0.5])
    parser.add_argument("--agent", default="sensitivity")
    parser.add_argument("--evaluations", type=int, default=20, help="for each share")
    parser.add_argument("--calibration", type=int, default=IMAGES, help="training images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    for keep in options.keep:
        env = environment(options, {"flops": keep})
        if not rows:
            rows.append(row(env, 1.0, None))
        rows.append(row(env, keep, best(env, options)))
    print(table(rows))
    if options.out:
        with options.out.open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *rows])


def environment(options: argparse.Namespace, budgets: dict[str, float]) -> CompressionEnv:
    """Return the environment of an id, with budgets."""
    more = {"calibration_images": options.calibration, "device": options.device}
    made = make_env(options.env, objectives=("accuracy", "flops"), budgets=budgets, **more)
    unwrapped = made.unwrapped
    assert isinstance(unwrapped, CompressionEnv)
    return unwrapped


def best(env: CompressionEnv, options: argparse.Namespace) -> EvaluatedStrategy:
    """Return the most accurate strategy that an agent finds, on the search split."""
    config = RunConfig("", options.agent, options.evaluations, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        recorded = RecordRun(env, RunFolder(Path(folder), config, resume=False))
        try:
            run_agent(recorded)
            return max(recorded.records, key=lambda each: each.metrics["accuracy"])
        finally:
            recorded.close()


def row(env: CompressionEnv, keep: float, found: EvaluatedStrategy | None) -> Row:
    """Measure the network of a strategy, or the original, on the test split."""
    problem, evaluator = env.problem, env.problem.evaluator
    network = evaluator.network if found is None else problem.apply(found.strategy)
    metrics = problem.original if found is None else found.metrics
    on_test = accuracy(on_device(network, evaluator.device), evaluator.data, evaluator.data.test)
    return keep, metrics["flops"], metrics["params"], metrics["accuracy"], on_test


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    whole = rows[0]
    lines = [
        "| keep | multiply-adds | parameters | search split | test split | lost |",
        "|---|---|---|---|---|---|",
    ]
    for keep, flops, params, search, test in rows:
        counts = f"{flops / 1e6:,.0f} M | {params / 1e6:.2f} M"
        found = f"{search:.2%} | {test:.2%} | {100 * (whole[4] - test):.2f} points"
        lines.append(f"| {keep:g} | {counts} | {found} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
