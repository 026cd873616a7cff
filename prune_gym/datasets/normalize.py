"""Normalize images for a network."""

import numpy as np
import torch

from prune_gym.datasets import AnyData


def normalize(images: np.ndarray, data: AnyData) -> torch.Tensor:
    """Turn ``uint8 (N, C, H, W)`` into float32 tensors, channels-last, as the network expects.

    ``data`` gives the mean and the standard deviation of pixels scaled to [0, 1].
    """
    scales = [1 / (255 * std) for std in data.std]
    shifts = [m / s for m, s in zip(data.mean, data.std, strict=True)]
    scale = torch.tensor(scales, dtype=torch.float32).view(1, -1, 1, 1)
    shift = torch.tensor(shifts, dtype=torch.float32)
    pixels = torch.tensor(images).contiguous(memory_format=torch.channels_last)
    return pixels.float().mul_(scale).sub_(shift.view(1, -1, 1, 1))
