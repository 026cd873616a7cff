"""``prune-gym latency convert``: make a latency table of times that were published elsewhere."""

import argparse
import json
from pathlib import Path

from rich.console import Console

from prune_gym.cli.values import new_file

HELP = "convert a table that JCW published into a latency table"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    actions = parser.add_subparsers(required=True, metavar="convert")
    convert = actions.add_parser("convert", help=HELP, allow_abbrev=False)
    add = convert.add_argument
    add("times", type=Path, metavar="runtime.npy", help="ms by convolution and channels")
    add("convolutions", type=Path, metavar="conv_info.log", help="one convolution per line")
    add("--device", required=True, help="name of the device in the table")
    add("--out", type=new_file, default=Path("latency.json"))


def run(options: argparse.Namespace, console: Console) -> int:
    """Convert and write."""
    from prune_gym._utils.paths import write_atomically
    from prune_gym.costs.jcw_latency import convert

    content = convert(options.times, options.convolutions, options.device)
    write_atomically(options.out, (json.dumps(content) + "\n").encode())
    count = len(content["layers"])
    console.print(
        f"Wrote {options.out}: {count} layers", markup=False, highlight=False, soft_wrap=True
    )
    return 0
