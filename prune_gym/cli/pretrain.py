"""``prune-gym pretrain``: train the weights that an environment starts from."""

import argparse
from pathlib import Path

from rich.console import Console

from prune_gym.cli.values import natural_number, new_file, positive

HELP = "train the weights an environment starts from"
OF_RECIPE = ("epochs", "learning_rate", "batch_size", "seed")


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    instead = "instead of that of the network's recipe"
    parser.add_argument("--network", default="vgg16")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--epochs", type=positive, help=instead)
    parser.add_argument("--learning-rate", type=float, help=instead)
    parser.add_argument("--batch-size", type=positive, help=instead)
    parser.add_argument("--seed", type=natural_number, help=instead)
    parser.add_argument("--from", dest="start_from", type=Path, metavar="WEIGHTS.safetensors")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (%(default)s)")
    parser.add_argument("--out", type=new_file, help="default: NETWORK-DATA.safetensors")


def run(options: argparse.Namespace, console: Console) -> int:
    """Train, or go on from the checkpoint."""
    from prune_gym.cli.progress import shown_log, shown_progress
    from prune_gym.training.pretrain import pretrain, recipe_of

    given = {name: getattr(options, name) for name in OF_RECIPE}
    changes = {name: value for name, value in given.items() if value is not None}
    recipe = recipe_of(options.network, **changes)
    out = options.out or Path(f"{options.network}-{options.data}.safetensors")
    with shown_progress(console, "training") as on_progress, shown_log(console):
        made = pretrain(
            options.network,
            options.data,
            recipe,
            out,
            options.start_from,
            on_progress,
            options.device,
        )
    console.print(
        f"Wrote {made.file}: accuracy {made.search:.4f} on the search split, {made.test:.4f} on "
        "the test split",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return 0
