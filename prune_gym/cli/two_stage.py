"""``prune-gym two-stage``: prune with one search, then decide bits with another."""

import argparse
from pathlib import Path

from rich.console import Console

from prune_gym.cli.values import natural_number, new_folder, positive

HELP = "prune a network with one search, then quantize what is left with another"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add, what = parser.add_argument, "which network of the first front to go on with (the knee)"
    add("--network", default="vgg16")
    add("--data", default="digits")
    add("--episodes", type=positive, default=100, help="of each stage (%(default)s)")
    add("--seed", type=natural_number, default=0)
    add("--pick", type=natural_number, metavar="NUMBER", help=what)
    add("--run", dest="folder", type=new_folder, help="default: runs/two-stage-NETWORK-DATA")


def run(options: argparse.Namespace, console: Console) -> int:
    """Search both stages, or go on with them."""
    from prune_gym.cli.comparison import comparison
    from prune_gym.cli.progress import shown_log, shown_progress
    from prune_gym.experiments.two_stage import two_stage

    name = f"two-stage-{options.network}-{options.data}".replace(":", "-")
    with shown_progress(console, "strategies") as on_progress, shown_log(console):
        first, second = two_stage(
            options.network,
            options.data,
            options.episodes,
            options.seed,
            options.folder or Path("runs") / name,
            options.pick,
            on_progress,
        )
    columns = {"original": first.original, "pruned": first.found, "quantized": second.found}
    labels = {"accuracy": "accuracy, search split", "test_accuracy": "accuracy, test split"}
    console.print(comparison("Pruned, then quantized", columns, labels))
    files = f"Networks: {first.network} and {second.network}"
    console.print(files, markup=False, highlight=False, soft_wrap=True)
    return 0
