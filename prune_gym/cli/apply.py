"""``prune-gym apply``: from a strategy to the pruned network in a file."""

import argparse
from pathlib import Path

from rich.console import Console

from prune_gym.cli.functions import add_functions, functions
from prune_gym.cli.values import new_file

HELP = "write a strategy's pruned network"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("strategy", type=Path, metavar="STRATEGY.json")
    add_functions(parser)
    parser.add_argument("--out", type=new_file, help="default: beside the strategy, .safetensors")


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the network and print before and after."""
    from prune_gym.cli.comparison import comparison
    from prune_gym.deployment.apply import apply

    out = options.out or options.strategy.with_suffix(".safetensors")
    made = apply(options.strategy, out, **functions(options))
    columns = {"before": made.before, "after": made.after}
    labels = {"accuracy": f"{made.metric_name}, test split"}
    console.print(comparison(f"{made.env_id}, no retraining", columns, labels))
    for line in (
        f"Wrote {out} ({out.stat().st_size / 1e6:.2f} MB)",
        f'Load it with: prune_gym.load_network("{out}")',
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0
