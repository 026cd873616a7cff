"""A pruned and quantized network beside the original: accuracy, energy and size.

    PRUNE_GYM_HOME=... python benchmarks/int8.py STRATEGY.json

STRATEGY.json is of a Quantize id, whose network is the pruned and fine-tuned one. Energy is that of
every dataflow, size that of every coding scheme, each with its factor to the original in float32.
"""

import argparse
from pathlib import Path
from typing import Any

import gymnasium as gym

import prune_gym  # noqa: F401  (registers the ids)
from prune_gym.costs.energy import DATAFLOWS, Energy
from prune_gym.costs.size import CODINGS, Size
from prune_gym.envs.replay import environment_of
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.graph.configuration import Configuration
from prune_gym.search_space.strategy import load_strategy


def figures(evaluator: Evaluator, configuration: Configuration) -> dict[str, float]:
    """Return accuracies in %, energies in mJ and sizes in MB."""
    network, data = evaluator.candidate(configuration), evaluator.data
    found = {
        f"accuracy, {name} split, %": 100 * evaluator.score(network, split)
        for name, split in (("search", data.search), ("test", data.test))
    }
    for dataflow in DATAFLOWS:
        found[f"energy, {dataflow}, mJ"] = float(
            Energy(evaluator.table, dataflow)(configuration)[0]
        )
    for coding in CODINGS:
        found[f"size, {coding}, MB"] = float(Size(evaluator.table, coding)(configuration)[0]) / 1e6
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("strategy", type=Path)
    parser.add_argument("--original", default="ChannelPrune-VGG16-CIFAR10-v0")
    options = parser.parse_args()
    original: Any = gym.make(options.original).unwrapped.problem
    strategy = load_strategy(options.strategy)
    small = environment_of(strategy).problem
    columns = (
        figures(original.evaluator, original.evaluator.table.configuration()),
        figures(small.evaluator, small.evaluator.table.configuration()),
        figures(small.evaluator, small.configure(strategy)),
    )
    print("| | original | pruned, fine-tuned | and quantized | factor |\n|---|---|---|---|---|")
    for name, before in columns[0].items():
        pruned, after = columns[1][name], columns[2][name]
        changed = f"{after - before:+.2f}" if name.endswith("%") else f"{before / after:.1f}"
        print(f"| {name} | {before:.2f} | {pruned:.2f} | {after:.2f} | {changed} |")


if __name__ == "__main__":
    main()
