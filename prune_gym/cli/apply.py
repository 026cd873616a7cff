"""``prune-gym apply``: from a strategy to the pruned network in a file."""

import argparse
from pathlib import Path

from rich.console import Console

from prune_gym.cli.values import new_file

HELP = "write a strategy's pruned network"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("strategy", type=Path, metavar="STRATEGY.json")
    parser.add_argument("--out", type=new_file, help="default: beside the strategy, .safetensors")


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the network and print before and after."""
    from prune_gym.deployment.apply import apply

    apply(options.strategy, options.out or options.strategy.with_suffix(".safetensors"), console)
    return 0
