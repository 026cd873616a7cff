"""Normalize images for a network."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from prune_gym._utils.device import memory_format
from prune_gym.datasets import AnyData
from prune_gym.datasets.checks import are_ids
from prune_gym.graph.inputs import Inputs


def normalize(images: Any, data: AnyData, device: torch.device | None = None) -> Any:
    """Turn ``uint8 (N, C, H, W)`` into float32 tensors, channels-last, as the network expects.

    ``data`` gives the mean and the standard deviation of pixels scaled to [0, 1]. The bytes go to
    the device, and become floats there. Token ids stay what they are. Several inputs become tensors
    one by one: images like these, all else as it is.
    """
    if not isinstance(images, Inputs):
        return (
            _as_it_is(images, device)
            if are_ids(images)
            else _normalized(images, data.mean, data.std, device)
        )
    each = zip(images.parts, data.mean, data.std, strict=True)
    parts = (
        _normalized(part, mean, std, device) if part.dtype == np.uint8 else _as_it_is(part, device)
        for part, mean, std in each
    )
    return Inputs(tuple(parts), images.names)


def _as_it_is(numbers: np.ndarray, device: torch.device | None) -> torch.Tensor:
    tensor = torch.tensor(numbers, device=device)
    return tensor.contiguous(memory_format=memory_format(tensor))


def _normalized(
    images: np.ndarray,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | None,
) -> torch.Tensor:
    scales = [1 / (255 * each) for each in std]
    shifts = [m / s for m, s in zip(mean, std, strict=True)]
    each = (1, -1, *(1,) * (images.ndim - 2))
    scale = torch.tensor(scales, dtype=torch.float32, device=device).view(each)
    shift = torch.tensor(shifts, dtype=torch.float32, device=device).view(each)
    return _as_it_is(images, device).float().mul_(scale).sub_(shift)
