"""``prune-gym pretrain-detector``: train the narrow YOLOv3 that ships."""

import argparse
from pathlib import Path

from rich.console import Console

from prune_gym.cli.values import new_file

HELP = "train the narrow YOLOv3 that ships"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    out = Path("yolov3_eighth-digit-scenes.safetensors")
    parser.add_argument("--out", type=new_file, default=out)


def run(options: argparse.Namespace, console: Console) -> int:
    """Train, or go on from the checkpoint."""
    from prune_gym.training.pretrain_detector import pretrain_detector

    pretrain_detector(options.out, progress=console.print)
    return 0
