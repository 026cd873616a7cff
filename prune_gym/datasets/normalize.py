"""Normalize images for a network."""

import numpy as np
import torch

from prune_gym._utils.device import memory_format
from prune_gym.datasets import AnyData
from prune_gym.datasets.checks import are_ids


def normalize(
    images: np.ndarray, data: AnyData, device: torch.device | None = None
) -> torch.Tensor:
    """Turn ``uint8 (N, C, H, W)`` into float32 tensors, channels-last, as the network expects.

    ``data`` gives the mean and the standard deviation of pixels scaled to [0, 1]. The bytes go to
    the device, and become floats there. Token ids stay what they are.
    """
    if are_ids(images):
        return torch.tensor(images, device=device)
    scales = [1 / (255 * std) for std in data.std]
    shifts = [m / s for m, s in zip(data.mean, data.std, strict=True)]
    each = (1, -1, *(1,) * (images.ndim - 2))
    scale = torch.tensor(scales, dtype=torch.float32, device=device).view(each)
    shift = torch.tensor(shifts, dtype=torch.float32, device=device).view(each)
    pixels = torch.tensor(images, device=device)
    pixels = pixels.contiguous(memory_format=memory_format(pixels))
    return pixels.float().mul_(scale).sub_(shift)
