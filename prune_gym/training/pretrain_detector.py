"""Train the detector that ships: the narrow YOLOv3 on the digit scenes."""

from pathlib import Path

import torch

from prune_gym._utils.progress import OnProgress, ignore_progress
from prune_gym.datasets import digit_scenes
from prune_gym.detection.metric import mean_average_precision
from prune_gym.models.weights_file import save_weights
from prune_gym.models.yolov3 import yolov3_eighth
from prune_gym.training.checkpoint import delete_checkpoint
from prune_gym.training.detection_training import DetectorRecipe, train_detector
from prune_gym.training.pretrain import Pretrained

RECIPE = DetectorRecipe(epochs=20, learning_rate=4e-3, batch_size=64)


def pretrain_detector(
    out: Path, recipe: DetectorRecipe = RECIPE, on_progress: OnProgress = ignore_progress
) -> Pretrained:
    """Train ``yolov3_eighth`` on ``digit-scenes`` and write fp16 weights to ``out``.

    A checkpoint stands beside ``out`` until training ends; the same call goes on from it.

    Raises:
        UserError: the checkpoint is damaged or belongs to another recipe.
    """
    data = digit_scenes.load()
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        network = yolov3_eighth(data.num_classes)
    checkpoint = out.with_suffix(".checkpoint")
    train_detector(network, data, recipe, checkpoint, on_progress)
    network.half().float()  # what the file holds is what is measured
    search, test = (
        mean_average_precision(network, data, split) for split in (data.search, data.test)
    )
    metadata = {
        "network": "yolov3_eighth",
        "data": data.name,
        "search_map": f"{search:.4f}",
        "test_map": f"{test:.4f}",
        "recipe": str(recipe),
    }
    save_weights(network, out, metadata)
    delete_checkpoint(checkpoint)
    return Pretrained(out, search, test)
