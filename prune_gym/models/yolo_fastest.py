"""Yolo-Fastest 1.1, the public detector for COCO, read from Darknet's files in the data home."""

from pathlib import Path

from prune_gym._utils.paths import data_home
from prune_gym.errors import UserError
from prune_gym.models.darknet.cfg import read_cfg
from prune_gym.models.darknet.network import Darknet


def yolo_fastest(num_classes: int = 80) -> Darknet:
    """Return the network with fresh weights; the file says how many classes there are.

    Raises:
        MissingFileError: the data home lacks the file.
        UserError: ``num_classes`` is not the file's.
    """
    network = Darknet(read_cfg(_file(".cfg")))
    if network.heads[0].classes != num_classes:
        raise UserError(
            f"{_file('.cfg')} is for {network.heads[0].classes} classes, not {num_classes}"
        )
    return network


def weights_file() -> Path:
    """Return where its weights are in the data home."""
    return _file(".weights")


def _file(suffix: str) -> Path:
    return data_home() / "coco-yolo" / f"yolo-fastest-1.1{suffix}"
