"""A data set that a tiny network learns in a second, and that network."""

import numpy as np
import torch
from nets import Tiny
from torch.nn import functional as F

from prune_gym.datasets import Data, Split
from prune_gym.datasets.normalize import normalize

TINY_OBJECTIVES = ("accuracy", "flops", "params", "memory")


def four_classes(name, seed=0, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)):
    """Four classes of 8x8 images: a noisy prototype each."""
    rng = np.random.default_rng(seed)
    prototypes = rng.integers(0, 256, (4, 3, 8, 8))

    def split(count):
        labels = rng.integers(4, size=count)
        noise = rng.normal(0, 110, (count, 3, 8, 8))
        images = np.clip(prototypes[labels] + noise, 0, 255).astype(np.uint8)
        return Split(images, labels.astype(np.int64))

    return Data(name, 4, split(512), split(256), split(256), mean, std, flip=False)


def trained_on(data):
    """A net of three convolutions."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Tiny()
    images, labels = normalize(data.train.images, data), torch.tensor(data.train.labels)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(80):
        batch = slice(64 * (step % 8), 64 * (step % 8 + 1))
        loss = F.cross_entropy(net(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval().requires_grad_(False)
