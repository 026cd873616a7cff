"""A small environment by name, for tests whose searches run in processes of their own."""

import gymnasium as gym
import numpy as np
import torch
from nets import Tiny
from torch.nn import functional as F

from prune_gym.datasets import Data, Split
from prune_gym.network.images import normalised

TINY = "tiny_envs:Tiny-v0"


def data():
    """Four classes of 8x8 images: a noisy prototype each."""
    rng = np.random.default_rng(0)
    prototypes = rng.integers(0, 256, (4, 3, 8, 8))

    def split(count):
        labels = rng.integers(4, size=count)
        noise = rng.normal(0, 110, (count, 3, 8, 8))
        images = np.clip(prototypes[labels] + noise, 0, 255).astype(np.uint8)
        return Split(images, labels.astype(np.int64))

    middle = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return Data("tiny", 4, split(512), split(256), split(256), *middle, flip=False)


def network():
    """A net of three convolutions, trained on the data."""
    torch.manual_seed(0)
    net, images = Tiny(), data()
    pixels = normalised(images.train.images, images)
    labels = torch.tensor(images.train.labels)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(80):
        batch = slice(64 * (step % 8), 64 * (step % 8 + 1))
        loss = F.cross_entropy(net(pixels[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


gym.register(
    "Tiny-v0",
    entry_point="prune_gym.env:CompressionEnv",
    disable_env_checker=True,
    kwargs={
        "network": "tiny_envs:network",
        "data": "tiny_envs:data",
        "latency": None,
        "objectives": ("accuracy", "flops", "memory"),
        "round_to": 1,
    },
)
