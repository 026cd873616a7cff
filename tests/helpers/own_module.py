"""Source text of a module of one's own, for networks and data that are named by strings."""

SPLITS = """
import numpy as np
import torch
from torch import nn

from prune_gym.datasets import Data, Split


def splits():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (n, 3, 8, 8), np.uint8) for n in (64, 32, 32)]
    parts = [Split(each, np.arange(len(each)) % 2) for each in images]
    return Data("own", 2, *parts, (0.5,) * 3, (0.25,) * 3, flip=False)
"""
