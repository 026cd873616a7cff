"""Networks of one- and three-dimensional convolutions, and data for them."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from prune_gym.datasets import Data, Split

CHANNELS = 2
SIZES = {1: (24,), 3: (6, 8, 6)}


def of_rank(rank, kind):
    """Return the class of a layer for so many dimensions, such as ``nn.Conv1d``."""
    return getattr(nn, f"{kind}{rank}d")


class Ranked(nn.Module):
    """Reads signals or volumes: a residual block, a concatenation, grouped and depthwise layers."""

    def __init__(self, rank):
        super().__init__()
        conv, norm = of_rank(rank, "Conv"), of_rank(rank, "BatchNorm")
        self.rank = rank
        self.stem = nn.Sequential(conv(CHANNELS, 12, 3, padding=1), norm(12), nn.ReLU())
        self.block = nn.Sequential(conv(12, 16, 3, padding="same"), norm(16), nn.SiLU())
        self.project, self.project_norm = conv(16, 12, 1, bias=False), norm(12)
        self.depthwise = conv(12, 12, 3, padding=1, groups=12)
        self.pool, self.pad = of_rank(rank, "MaxPool")(2), of_rank(rank, "ReplicationPad")(1)
        self.grouped = conv(12, 8, 3, stride=2, groups=2)
        self.side = conv(12, 6, 3, stride=2, dilation=1)
        self.slopes = nn.PReLU(14)
        self.last = nn.Sequential(conv(14, 10, 1), of_rank(rank, "Dropout")(0.1), nn.Tanh())
        self.classifier = nn.Linear(10, 4)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.project_norm(self.project(self.block(x)))
        x = self.pad(self.pool(F.relu(self.depthwise(x))))
        x = self.slopes(torch.cat([self.grouped(x), self.side(x)], 1))
        average = getattr(F, f"adaptive_avg_pool{self.rank}d")
        return self.classifier(average(self.last(x), 1).flatten(1))


class Flat(nn.Module):
    """Reads every place of a map by a linear layer."""

    def __init__(self, rank):
        super().__init__()
        conv = of_rank(rank, "Conv")
        self.first, self.second = conv(CHANNELS, 8, 3, stride=2), conv(8, 6, 2)
        self.norm = of_rank(rank, "BatchNorm")(6)
        places = np.prod([(size - 3) // 2 for size in SIZES[rank]])
        self.classifier = nn.Linear(6 * int(places), 4)

    def forward(self, x):
        return self.classifier(F.relu(self.norm(self.second(F.relu(self.first(x))))).flatten(1))


NETWORKS = {"with branches": Ranked, "flattened": Flat}


def network_of(rank, name):
    """Return a network of random weights and statistics, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = NETWORKS[name](rank)
        for key, tensor in net.state_dict().items():
            if "norm" in key and tensor.ndim or key.startswith("stem.1"):
                tensor.copy_(tensor + torch.rand(tensor.shape) if tensor.ndim else tensor)
    return net.eval().requires_grad_(False)


def data_of(rank, seed=0):
    """Return four classes of signals or volumes: a noisy prototype each."""
    rng = np.random.default_rng(seed)
    shape = (CHANNELS, *SIZES[rank])
    prototypes = rng.integers(0, 256, (4, *shape))

    def split(count):
        labels = rng.integers(4, size=count)
        noisy = prototypes[labels] + rng.normal(0, 40, (count, *shape))
        return Split(np.clip(noisy, 0, 255).astype(np.uint8), labels)

    return Data("ranked", 4, split(384), split(128), split(128), (0.5,) * 2, (0.25,) * 2, flip=True)
