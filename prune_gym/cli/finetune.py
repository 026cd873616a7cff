"""``prune-gym finetune``: train a strategy's pruned network on."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from prune_gym._utils.formatting import format_change, format_metric
from prune_gym.cli.functions import add_functions, functions
from prune_gym.cli.values import natural_number, new_file, positive

HELP = "train a strategy's pruned network on"
DISTILLATION = 0.5


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("strategy", type=Path, metavar="STRATEGY.json")
    add("--recipe", default="short", help="short, long or a .toml file (default: %(default)s)")
    add("--epochs", type=positive, help="instead of the recipe's")
    add("--seed", type=natural_number, help="instead of the recipe's")
    add(
        "--distil",
        dest="distillation",
        type=float,
        nargs="?",
        const=DISTILLATION,
        metavar="SHARE",
        help=f"learn from the original network too; its share of the loss ({DISTILLATION})",
    )
    add("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    add_functions(parser)
    add("--out", type=new_file, help="default: beside the strategy, NAME-finetuned.safetensors")


def run(options: argparse.Namespace, console: Console) -> int:
    """Train, or go on from the checkpoint."""
    from prune_gym.cli.progress import shown_log, shown_progress
    from prune_gym.compression.network_file import SUFFIX
    from prune_gym.training.finetune import finetune
    from prune_gym.training.recipe import load_recipe

    given = {name: getattr(options, name) for name in ("epochs", "seed", "distillation")}
    changes = {name: value for name, value in given.items() if value is not None}
    recipe = load_recipe(options.recipe, **changes)
    out = options.out or options.strategy.with_name(f"{options.strategy.stem}-finetuned")
    if out.suffix != SUFFIX:
        out = out.with_name(out.name + SUFFIX)
    with shown_progress(console, "training") as on_progress, shown_log(console):
        report = finetune(
            options.strategy,
            recipe,
            out,
            on_progress,
            **functions(options),
            device=options.device,
        )
    console.print(_table(report.accuracies))
    if report.is_worse:
        console.print(
            "Training made it worse: a learning_rate that is too high, or images that do not bear "
            "the shift of the recipe; `prune-gym apply` writes the network as it was before",
            style="yellow",
        )
    files = f"{report.best}, {report.last} and {report.figures}"
    console.print(f"Wrote {files}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _table(accuracies: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table("accuracy", "search split", "test split", "change on the test split")
    original = accuracies["original"]["test"]
    for name, each in accuracies.items():
        changed = format_change(original, each["test"], "accuracy")
        cells = (format_metric(each[split], "accuracy") for split in ("search", "test"))
        table.add_row(name, *cells, "" if name == "original" else changed)
    return table
