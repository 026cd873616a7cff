"""Compute the loss that YOLO networks are trained with.

It is YOLOv3's (Redmon and Farhadi 2018, arXiv:1804.02767), binary cross-entropy for objectness and
classes, with two later changes that train faster: boxes are compared by generalized IoU
(Rezatofighi et al. 2019), and every anchor of a fitting shape learns an object, not the best alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from prune_gym.detection.boxes import box_cxcywh_to_xyxy, decode_head, iou
from prune_gym.models.darknet.network import Head

SAME_SHAPE = 0.5  # IoU of an anchor and an object, both centered, from which it learns it
CLOSE = 0.6  # IoU from which a box that need not find an object is not told to be background
BOX_WEIGHT = 2.0


@dataclass(frozen=True)
class Objects:
    """The objects in a batch of images.

    Attributes:
        boxes: left, top, right, bottom in pixels, ``float32 (m, 4)``.
        classes: ``int64 (m,)``.
        image_ids: the image of each, ascending, ``int64 (m,)``.
    """

    boxes: torch.Tensor
    classes: torch.Tensor
    image_ids: torch.Tensor

    def to(self, device: torch.device) -> "Objects":
        """Return the objects on a device."""
        return Objects(self.boxes.to(device), self.classes.to(device), self.image_ids.to(device))


def yolo_loss(
    maps: Sequence[torch.Tensor], heads: Sequence[Head], size: tuple[int, int], objects: Objects
) -> torch.Tensor:
    """Return the loss of a batch, a scalar: a mean over the boxes that should find an object.

    Args:
        maps: the network's raw maps, ``(n, anchors * (5 + classes), h, w)`` each.
        heads: the network's.
        size: height and width of the images in pixels.
        objects: what is in the images.
    """
    decoded = torch.cat(
        [decode_head(raw, head, size).flatten(1, 3) for raw, head in zip(maps, heads, strict=True)],
        dim=1,
    )
    shapes = [(raw.shape[2], raw.shape[3]) for raw in maps]
    which, place = _responsible(heads, shapes, size, objects)
    image = objects.image_ids[which]
    boxes = box_cxcywh_to_xyxy(decoded[..., :4])
    wanted = torch.zeros(decoded.shape[:2], device=decoded.device)
    wanted[image, place] = 1
    counts = (wanted > 0) | ~_close(boxes.detach(), objects)
    found = decoded[image, place]
    classes = F.one_hot(objects.classes[which], found.shape[1] - 5).float()
    positives = max(len(which), 1)
    there = F.binary_cross_entropy_with_logits(decoded[..., 4], wanted, reduction="none")
    kind = F.binary_cross_entropy_with_logits(found[:, 5:], classes, reduction="sum")
    box = (1 - giou(boxes[image, place], objects.boxes[which])).sum()
    return ((there * counts).sum() + kind + BOX_WEIGHT * box) / positives


def _responsible(
    heads: Sequence[Head],
    shapes: Sequence[tuple[int, int]],
    size: tuple[int, int],
    objects: Objects,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pairs of an object and the place, among all boxes of its image, that learns it."""
    device = objects.boxes.device
    extents = objects.boxes[:, 2:] - objects.boxes[:, :2]
    centers = (objects.boxes[:, 2:] + objects.boxes[:, :2]) / 2
    anchors = torch.tensor([anchor for head in heads for anchor in head.anchors], device=device)
    shared = torch.minimum(extents[:, None], anchors).prod(-1)
    shape = shared / (extents.prod(-1)[:, None] + anchors.prod(-1) - shared)
    fits = (shape > SAME_SHAPE) | (shape == shape.amax(1, keepdim=True))
    pixels = torch.tensor([size[1], size[0]], device=device)
    places, first = [], 0
    for head, (height, width) in zip(heads, shapes, strict=True):
        grid = torch.tensor([width, height], device=device)
        column, row = (centers / pixels * grid).long().clamp_min(0).minimum(grid - 1).unbind(1)
        for _ in head.anchors:
            places.append(first + row * width + column)
            first += height * width
    which, anchor = torch.nonzero(fits, as_tuple=True)
    return which, torch.stack(places, dim=1)[which, anchor]


def _close(boxes: torch.Tensor, objects: Objects) -> torch.Tensor:
    """Return which boxes (n, k, 4) overlap some object of their image a lot, ``bool (n, k)``."""
    counts = torch.bincount(objects.image_ids, minlength=len(boxes))
    starts = counts.cumsum(0) - counts
    rank = torch.arange(len(objects.image_ids), device=boxes.device) - starts[objects.image_ids]
    padded = boxes.new_zeros(len(boxes), max(int(counts.max()), 1), 4)
    padded[objects.image_ids, rank] = objects.boxes
    return (iou(boxes[:, :, None], padded[:, None]) > CLOSE).any(2)


def giou(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the generalized IoU: IoU less the share of the hull that neither box covers, (m,)."""
    shared = iou(left, right)
    hull = (
        torch.maximum(left[:, 2:], right[:, 2:]) - torch.minimum(left[:, :2], right[:, :2])
    ).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).prod(1) for box in (left, right)]
    union = (areas[0] + areas[1]) / (1 + shared)
    return shared - (hull - union) / hull.clamp_min(1e-9)
