"""``prune-gym two-stage``: prune with one search, then decide bits with another."""

import argparse
from pathlib import Path

from rich.console import Console

HELP = "prune a network with one search, then quantise what is left with another"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--network", default="vgg16")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--episodes", type=int, default=100, help="of each stage (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--pick", type=int, help="number of the first front's network to go on with (the knee)"
    )
    parser.add_argument(
        "--run", dest="folder", type=Path, help="default: runs/two-stage-NETWORK-DATA"
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Search both stages, or go on with them."""
    from prune_gym.deploy.two_stage import two_stage

    if options.episodes < 1:
        raise ValueError(f"--episodes: expected a whole number >= 1, got {options.episodes}")
    name = f"two-stage-{options.network}-{options.data}".replace(":", "-")
    two_stage(
        options.network,
        options.data,
        options.episodes,
        options.seed,
        options.folder or Path("runs") / name,
        options.pick,
        console,
    )
    return 0
