"""``prune-gym library``: networks pruned and retrained beforehand, one per density, for EMOMC."""

import argparse
from pathlib import Path

from rich.console import Console

from prune_gym.cli.values import natural_number, new_folder, positive
from prune_gym.errors import UserError

HELP = "make a library of pruned and retrained networks, one per density"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--network", default="vgg16")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--least", type=float, default=0.05, help="the last density (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--batch-size", type=positive, default=128)
    parser.add_argument("--seed", type=natural_number, default=0)
    parser.add_argument("--out", type=new_folder, help="folder (default: library-NETWORK-DATA)")


def run(options: argparse.Namespace, console: Console) -> int:
    """Make the library, or go on with it."""
    from prune_gym.cli.progress import shown_log, shown_progress
    from prune_gym.evaluation.task import load_evaluator
    from prune_gym.search_space import SpaceOptions
    from prune_gym.search_space.kinds.layerwise import densities
    from prune_gym.training.build_library import build_library
    from prune_gym.training.recipe import TrainingRecipe

    falling = [float(d) for d in densities(SpaceOptions(min_density=options.least))[::-1] if d < 1]
    if not falling:
        raise UserError(f"--least: expected a share below 1, got {options.least:g}")
    recipe = TrainingRecipe(
        epochs=1,
        learning_rate=options.learning_rate,
        batch_size=options.batch_size,
        label_smoothing=0.0,
        warmup_epochs=0.0,
        seed=options.seed,
    )
    out = options.out or Path(f"library-{options.network}-{options.data}")
    evaluator = load_evaluator(options.network, options.data, "none", block_size=1)
    with shown_progress(console, "training") as on_progress, shown_log(console):
        library = build_library(evaluator, options.network, out, recipe, falling, on_progress)
    made = len(library.manifest["networks"])
    console.print(
        f"Library of {made} networks in {out}", markup=False, highlight=False, soft_wrap=True
    )
    return 0
