"""A tiny network and its data by name: ``network="named:trained", data="named:splits"``."""

from functools import cache

import gymnasium as gym
import numpy as np
import torch
from conftest import constant, play
from nets import Tiny
from torch.nn import functional as F

from prune_gym.datasets import Data, Split
from prune_gym.network.images import normalised
from prune_gym.strategy import strategy_from_dict

TASK = {"network": "named:trained", "data": "named:splits", "round_to": 1}


@cache
def splits():
    """Four classes of 8x8 images: a noisy prototype each."""
    rng = np.random.default_rng(1)
    prototypes = rng.integers(0, 256, (4, 3, 8, 8))

    def split(count):
        labels = rng.integers(4, size=count)
        noise = rng.normal(0, 110, (count, 3, 8, 8))
        images = np.clip(prototypes[labels] + noise, 0, 255).astype(np.uint8)
        return Split(images, labels.astype(np.int64))

    middle = ((0.5, 0.4, 0.5), (0.25, 0.3, 0.25))
    return Data("named", 4, split(512), split(256), split(256), *middle, flip=False)


def trained():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Tiny()
    images = normalised(splits().train.images, splits())
    labels = torch.tensor(splits().train.labels)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(80):
        batch = slice(64 * (step % 8), 64 * (step % 8 + 1))
        loss = F.cross_entropy(net(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval().requires_grad_(False)


def save_strategy(file, action=-0.5, **kwargs):
    """Write a strategy of constant actions; ``kwargs`` go to the environment."""
    env = gym.make("ChannelPrune-v0", **TASK, **kwargs)
    _, _, infos = play(env, constant(action))
    strategy_from_dict(infos[-1]["strategy"]).save(file)
    return file
