"""``prune-gym measure``: the original and the compressed network side by side."""

import argparse
from pathlib import Path

from rich.console import Console

from prune_gym.cli.values import new_file, positive

HELP = "measure the original and the compressed network side by side"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("strategy", type=Path, metavar="STRATEGY.json")
    add("--network", type=Path, metavar="FILE.safetensors", help="its fine-tuned weights")
    add("--onnx", type=Path, metavar="FILE.onnx", help="what is deployed; default: exported now")
    add("--threads", type=positive, default=2)
    add("--batch", type=positive, default=1)
    add("--out", type=new_file, metavar="FILE.json", help="write the figures there too")


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, print and write."""
    from prune_gym.deployment.before_after import measure, report

    files = (options.strategy, options.network, options.onnx)
    report(measure(*files, options.threads, options.batch), options.out, console)
    return 0
