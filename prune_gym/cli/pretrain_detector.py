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
    from prune_gym.cli.progress import shown_log, shown_progress
    from prune_gym.training.pretrain_detector import pretrain_detector

    with shown_progress(console, "epochs") as on_progress, shown_log(console):
        made = pretrain_detector(options.out, on_progress=on_progress)
    console.print(
        f"Wrote {made.file}: mAP@0.5 {made.search:.4f} on the search split, {made.test:.4f} on the "
        "test split",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return 0
