"""Compute the mean average precision at an IoU of 0.5 by COCO's own code (pycocotools)."""

import contextlib
import io
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import nn

from prune_gym.datasets.detection import DetectionData, DetectionSplit
from prune_gym.datasets.normalize import normalize
from prune_gym.detection.boxes import Detections, detect, size_of
from prune_gym.errors import MissingExtraError, UserError
from prune_gym.models.darknet.network import Head

BATCH = 64
MATCH_IOU = 0.5
MAX_DETECTIONS = 100  # per image, COCO's rule


@torch.inference_mode()
def mean_average_precision(
    network: nn.Module,
    data: DetectionData,
    split: DetectionSplit,
    heads: Sequence[Head] | None = None,
) -> float:
    """Return the mAP@0.5 of any detector on a split, in [0, 1], computed in float32.

    Args:
        network: gives one raw map per head.
        data: what the split is of.
        split: the images and boxes.
        heads: the network's, by default ``network.heads``; a candidate whose blocks were taken
            out does not carry them.
    """
    known = cast(Sequence[Head], network.heads if heads is None else heads)
    device = next(network.parameters()).device
    batches = (
        normalize(split.images[start : start + BATCH], data).to(device)
        for start in range(0, len(split), BATCH)
    )
    return average_precision([detect(network(x), known, size_of(x)) for x in batches], split)


def average_precision(found: Sequence[Detections], split: DetectionSplit) -> float:
    """Return the mean over classes of the average precision at an IoU of 0.5, in [0, 1].

    101-point interpolation, at most 100 boxes an image; classes without an object do not count.

    Args:
        found: what was found in the split's images, batch by batch.
        split: the truth.

    Raises:
        MissingExtraError: pycocotools is not installed; says how to.
        UserError: the split holds no object.
    """
    if not len(split.boxes):
        raise UserError("mean average precision needs a split with at least one object, got none")
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingExtraError(
            "mean average precision needs pycocotools: pip install 'prune-gym[detection]'"
        ) from error
    results = _results(found)
    if not len(results):
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        truth = COCO()
        truth.dataset = _truth(split)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.iouThrs = np.array([MATCH_IOU])
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]
    return float(precision[precision > -1].mean())


def _results(found: Sequence[Detections]) -> np.ndarray:
    """Return one row a box: image, left, top, width, height, score, class; float64 (boxes, 7)."""
    rows, first = [], 0
    for batch in found:
        image, place = torch.nonzero(batch.scores, as_tuple=True)
        boxes = batch.boxes[image, place]
        parts = (
            (first + image)[:, None],
            boxes[:, :2],
            boxes[:, 2:] - boxes[:, :2],
            batch.scores[image, place][:, None],
            batch.classes[image, place][:, None],
        )
        rows.append(torch.cat([part.double() for part in parts], dim=1).cpu().numpy())
        first += len(batch.scores)
    return np.concatenate(rows)


def _truth(split: DetectionSplit) -> dict:
    boxes = split.boxes.astype(np.float64)
    extents = boxes[:, 2:] - boxes[:, :2]
    objects = zip(boxes, extents, split.classes, split.image_ids, strict=True)
    return {
        "images": [{"id": index} for index in range(len(split))],
        "categories": [{"id": int(each)} for each in np.unique(split.classes)],
        "annotations": [
            {
                "id": index + 1,
                "image_id": int(image_id),
                "category_id": int(kind),
                "bbox": [*box[:2].tolist(), *extent.tolist()],
                "area": float(extent.prod()),
                "iscrowd": 0,
            }
            for index, (box, extent, kind, image_id) in enumerate(objects)
        ],
    }
