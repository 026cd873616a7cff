"""Networks with several inputs, and data for them."""

from functools import cache

import numpy as np
import torch
from nets import conv
from torch import nn
from torch.nn import functional as F

from prune_gym.datasets import Data, Split
from prune_gym.datasets.normalize import normalize
from prune_gym.graph.inputs import feed

TOKENS, WIDTH = 6, 5


class TwoBranches(nn.Module):
    """Reads an image and a vector: a residual block, a gate of the map, and a concatenation."""

    def __init__(self):
        super().__init__()
        self.stem, self.block = conv(3, 12), nn.Sequential(conv(12, 16), conv(16, 12))
        self.vector = nn.Sequential(nn.Linear(7, 16), nn.GELU(), nn.Linear(16, 10), nn.ReLU())
        self.gate, self.head = nn.Linear(7, 12), nn.Linear(22, 4)

    def forward(self, image, vector):
        x = self.stem(image)
        x = x + self.block(x)
        x = x * self.gate(vector).sigmoid()[:, :, None, None]
        return self.head(torch.cat([x.mean((2, 3)), self.vector(vector)], 1))


class ByName(TwoBranches):
    """Takes its inputs by their names alone."""

    def forward(self, *, image, vector):
        return super().forward(image, vector)


class Siamese(nn.Module):
    """Reads two images by the same layers."""

    def __init__(self):
        super().__init__()
        self.tower = nn.Sequential(conv(3, 8), conv(8, 12, stride=2), conv(12, 12))
        self.project, self.head = nn.Linear(12, 16), nn.Linear(32, 4)

    def embed(self, x):
        return self.project(self.tower(x).mean((2, 3)))

    def forward(self, left, right):
        left, right = self.embed(left), self.embed(right)
        return self.head(F.relu(torch.cat([(left - right).abs(), left * right], 1)))


class Masked(nn.Module):
    """Reads tokens and a mask of those that there are, by which attention and mean go."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(WIDTH, 16)
        self.layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x, mask):
        x = self.layer(self.embed(x), src_key_padding_mask=~mask)
        shares = mask[..., None].to(x.dtype)
        return self.head((x * shares).sum(1) / shares.sum(1))


class Weighted(nn.Module):
    """Reads tokens and a weight of each, a number from 0 to 1."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 16), nn.Linear(16, 12)
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 4)

    def forward(self, x, mask):
        x = F.gelu(self.first(x)) * mask.unsqueeze(-1)
        return self.head((self.norm(self.second(x)) * mask.unsqueeze(-1)).mean(1))


def images(count, rng):
    coarse = rng.integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)
    return coarse.repeat(4, 2).repeat(4, 3)


def colors(count, rng):
    """Return images that are told apart by their color."""
    colored = rng.integers(0, 192, (count, 3, 1, 1), dtype=np.uint8)
    return colored + rng.integers(0, 64, (count, 3, 16, 16), dtype=np.uint8)


def tokens(count, rng):
    return rng.normal(0, 1, (count, TOKENS, WIDTH)).astype(np.float32)


def lengths(count, rng):
    return np.arange(TOKENS) < rng.integers(1, TOKENS + 1, (count, 1))


PIXELS = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
# name -> network, its inputs, and mean and std of each
TASKS = {
    "image and vector": (
        TwoBranches,
        lambda n, rng: (images(n, rng), rng.normal(0, 1, (n, 7)).astype(np.float32)),
        [(each, ()) for each in PIXELS],
    ),
    "by name": (
        ByName,
        lambda n, rng: {"vector": rng.normal(0, 1, (n, 7)), "image": images(n, rng)},
        [{"image": each} for each in PIXELS],
    ),
    "siamese": (
        Siamese,
        lambda n, rng: (colors(n, rng), colors(n, rng)),
        [(each, each) for each in PIXELS],
    ),
    "boolean mask": (
        Masked,
        lambda n, rng: (tokens(n, rng), lengths(n, rng)),
        [((), ()), ((), ())],
    ),
    "float mask": (
        Weighted,
        lambda n, rng: (tokens(n, rng), rng.random((n, TOKENS)).astype(np.float32)),
        [((), ()), ((), ())],
    ),
}


@cache
def task(name):
    """Return a network of random weights, and data whose labels are what it computes."""
    kind, inputs, (mean, std) = TASKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = kind()
    rng = np.random.default_rng(0)
    sizes = {"train": 192, "search": 128, "test": 64}
    blank = {key: Split(inputs(n, rng), np.zeros(n, np.int64)) for key, n in sizes.items()}
    data = Data(name, 4, **blank, mean=mean, std=std, flip=True)
    with torch.no_grad():
        for _ in range(10):  # running statistics
            feed(network.train(), normalize(data.train.images, data))
        network.eval().requires_grad_(False)
        means = feed(network, normalize(data.train.images, data)).mean(0)
        network.head.bias -= means  # every class has its share
        labels = {
            key: feed(network, normalize(each.images, data)).argmax(1).numpy()
            for key, each in blank.items()
        }
    splits = {key: Split(each.images, labels[key]) for key, each in blank.items()}
    return network, Data(name, 4, **splits, mean=mean, std=std, flip=True)
