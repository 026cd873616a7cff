"""``prune-gym benchmark-report``: table and plots out of a benchmark's CSV."""

import argparse
from pathlib import Path

from rich.console import Console

HELP = "make the Markdown table and the plots of a benchmark"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="--out of prune-gym benchmark")


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the table and the pictures, and print the table."""
    from prune_gym.experiments.benchmark.cells import RUNS
    from prune_gym.experiments.benchmark.collect import collect
    from prune_gym.experiments.benchmark.write_report import CURVES, FINAL, TABLE, write_report

    if (options.folder / RUNS).is_dir():
        collect(options.folder)  # what is finished by now, of a benchmark that goes on too
    console.print(write_report(options.folder), markup=False, highlight=False, soft_wrap=True)
    for name in (TABLE, CURVES, FINAL):
        console.print(f"Wrote {options.folder / name}", highlight=False, soft_wrap=True)
    return 0
