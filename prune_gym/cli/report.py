"""``prune-gym report``: run folders as one HTML page."""

import argparse
from pathlib import Path

from rich.console import Console

from prune_gym.cli.values import new_file

HELP = "show runs in one HTML page"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder")
    parser.add_argument("--out", type=new_file, default=Path("report.html"))


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the page."""
    from prune_gym._utils.paths import write_atomically
    from prune_gym.experiments.report.page import report_page
    from prune_gym.experiments.results import read_results

    runs = [read_results(folder) for folder in options.runs]
    write_atomically(options.out, report_page(runs).encode())
    for each in runs:
        for text in filter(None, (each.warning, each.caution)):
            console.print(text, style="yellow", markup=False, soft_wrap=True)
    console.print(f"Wrote {options.out}; open it in a browser", markup=False, soft_wrap=True)
    return 0
