"""``prune-gym pretrain-detector``: train the narrow YOLOv3 that ships."""

import argparse
from pathlib import Path

from rich.console import Console

HELP = "train the narrow YOLOv3 that ships"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--out", type=Path, default=Path("yolov3_eighth-digit-scenes.safetensors"))


def run(options: argparse.Namespace, console: Console) -> int:
    """Train, or go on from the checkpoint."""
    from prune_gym.deploy.pretrain_detector import pretrain_detector

    pretrain_detector(options.out, progress=console.print)
    return 0
