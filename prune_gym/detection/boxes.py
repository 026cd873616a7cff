"""Turn raw maps into boxes: YOLO's decoding and non-maximum suppression, many images at once.

The encoding is that of YOLOv3 (Redmon and Farhadi 2018, arXiv:1804.02767, section 2.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from prune_gym.datasets.detection import DetectionData
from prune_gym.errors import UserError
from prune_gym.models.darknet.network import Head

SCORE_THRESHOLD = 0.005
NMS_IOU_THRESHOLD = 0.45
CANDIDATES = 500  # per image, the best before suppression


@dataclass(frozen=True)
class Detections:
    """Boxes that a detector found in n images, the best first; a score of 0 means no box.

    Attributes:
        boxes: left, top, right, bottom in pixels of the input, ``float32 (n, k, 4)``.
        scores: ``float32 (n, k)``.
        classes: ``int64 (n, k)``.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    classes: torch.Tensor


def check_heads(network: nn.Module, data: DetectionData) -> None:
    """Refuse a network that is no detector of the data's classes.

    Raises:
        UserError: it does not say how its outputs are read, or has another number of classes.
    """
    heads = getattr(network, "heads", ())
    if not (isinstance(heads, Sequence) and heads and all(isinstance(h, Head) for h in heads)):
        raise UserError(
            f"{data.name} holds boxes, and {type(network).__name__} is no detector: expected an "
            "attribute heads, one prune_gym.models.darknet.network.Head per raw map that the "
            "network returns"
        )
    for head in heads:
        if head.classes != data.num_classes:
            raise UserError(
                f"{type(network).__name__} detects {head.classes} classes, and {data.name} has "
                f"{data.num_classes}: take a network for {data.num_classes} classes"
            )


def decode_head(raw: torch.Tensor, head: Head, size: tuple[int, int]) -> torch.Tensor:
    """Return the centers and sizes in pixels, objectness and class logits of a head's boxes.

    Args:
        raw: a head's map, ``(n, anchors * (5 + classes), h, w)``.
        head: what the network says of it.
        size: height and width of the network's input in pixels.

    Returns:
        ``float32 (n, anchors, h, w, 5 + classes)``: x, y, width, height, logits.
    """
    n, _, height, width = raw.shape
    values = raw.float().reshape(n, len(head.anchors), -1, height, width).permute(0, 1, 3, 4, 2)
    cells = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")
    corner = torch.stack(cells, dim=-1).to(raw.device)
    stride = torch.tensor([size[1] / width, size[0] / height], device=raw.device)
    anchors = torch.tensor(head.anchors, device=raw.device).view(-1, 1, 1, 2)
    offset = values[..., :2].sigmoid() * head.scale_xy - (head.scale_xy - 1) / 2
    # No box is e^8 anchors wide; a cut network may ask for it all the same.
    extent = values[..., 2:4].clamp(max=8).exp() * anchors
    return torch.cat([(corner + offset) * stride, extent, values[..., 4:]], dim=-1)


def detect(
    maps: Sequence[torch.Tensor], heads: Sequence[Head], size: tuple[int, int]
) -> Detections:
    """Return the boxes in a network's raw maps; a box may be found once per class.

    Args:
        maps: one per head, ``(n, anchors * (5 + classes), h, w)``.
        heads: the network's.
        size: height and width of the network's input in pixels.
    """
    decoded = [
        decode_head(raw, head, size).flatten(1, 3) for raw, head in zip(maps, heads, strict=True)
    ]
    every = torch.cat(decoded, dim=1)
    scores = every[..., 4:5].sigmoid() * every[..., 5:].sigmoid()
    classes = scores.shape[2]
    scores = scores.flatten(1).nan_to_num(0)
    scores *= scores > SCORE_THRESHOLD
    most = int((scores > 0).sum(1).max())
    best, at = scores.topk(min(CANDIDATES, most))
    boxes = box_cxcywh_to_xyxy(
        every[..., :4].gather(1, (at // classes)[..., None].expand(-1, -1, 4))
    )
    kept = nms(boxes, at % classes, best)
    return Detections(boxes, best * kept, at % classes)


def size_of(images: torch.Tensor) -> tuple[int, int]:
    """Return the height and width of images (N, C, H, W)."""
    return images.shape[2], images.shape[3]


def box_cxcywh_to_xyxy(boxes: torch.Tensor) -> torch.Tensor:
    """Turn center x, y, width and height into left, top, right and bottom, (..., 4)."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def iou(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the intersection over union of boxes (..., 4) that broadcast, (...)."""
    lower = torch.maximum(left[..., :2], right[..., :2])
    upper = torch.minimum(left[..., 2:], right[..., 2:])
    shared = (upper - lower).clamp_min(0).prod(-1)
    areas = [(b[..., 2:] - b[..., :2]).clamp_min(0).prod(-1) for b in (left, right)]
    return shared / (areas[0] + areas[1] - shared).clamp_min(1e-9)


def nms(boxes: torch.Tensor, classes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Return which boxes greedy non-maximum suppression keeps, ``bool (n, k)``.

    A kept box removes those of its class with a lower score and an IoU above 0.45 with it.
    The loop runs over ranks, for all images at once, so that its arrays stay in the caches.

    Args:
        boxes: left, top, right, bottom, ``(n, k, 4)``, by falling score.
        classes: ``(n, k)``.
        scores: ``(n, k)``; those of 0 are no boxes.
    """
    kept = scores > 0
    left, top, right, bottom = boxes.permute(2, 0, 1).contiguous()
    areas = (right - left) * (bottom - top)
    for rank in range(boxes.shape[1] - 1):
        here, rest = slice(rank, rank + 1), slice(rank + 1, None)
        width = torch.minimum(right[:, here], right[:, rest])
        width -= torch.maximum(left[:, here], left[:, rest])
        height = torch.minimum(bottom[:, here], bottom[:, rest])
        height -= torch.maximum(top[:, here], top[:, rest])
        shared = width.clamp_min_(0) * height.clamp_min_(0)
        beaten = shared > NMS_IOU_THRESHOLD * (areas[:, here] + areas[:, rest] - shared)
        beaten &= (classes[:, here] == classes[:, rest]) & kept[:, here]
        kept[:, rest] &= ~beaten
    return kept
