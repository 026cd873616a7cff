"""Compress a network that the package has never seen, on your own data, in less than a minute.

    python examples/own_network.py

The network is a small SqueezeNet: its "fire" modules squeeze, expand by two convolutions side by
side and concatenate, and a shortcut adds two of them. The package is told nothing about it.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from prune_gym import CompressionEnv, Data, Split, compression_env, load_network
from prune_gym.compression.network_file import save_network
from prune_gym.datasets.normalize import normalize
from prune_gym.evaluation.evaluator import accuracy


class Fire(nn.Module):
    """Squeeze by a 1x1 convolution, then expand by a 1x1 and a 3x3 one side by side."""

    def __init__(self, channels: int, squeezed: int, width: int) -> None:
        """Map ``channels`` to ``2 * width`` channels."""
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(channels, squeezed, 1), nn.BatchNorm2d(squeezed))
        self.narrow = nn.Sequential(nn.Conv2d(squeezed, width, 1), nn.BatchNorm2d(width))
        self.wide = nn.Sequential(nn.Conv2d(squeezed, width, 3, padding=1), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, 2 * width, H, W)."""
        x = torch.relu(self.squeeze(x))
        return torch.relu(torch.cat([self.narrow(x), self.wide(x)], dim=1))


class SmallSqueezeNet(nn.Module):
    """Four fire modules for 8x8 images."""

    def __init__(self, num_classes: int) -> None:
        """Build the layers."""
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.fire1, self.fire2 = Fire(32, 16, 32), Fire(64, 16, 32)
        self.pool = nn.MaxPool2d(2)
        self.fire3, self.fire4 = Fire(64, 24, 48), Fire(96, 24, 48)
        self.out = nn.Linear(96, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalized images (N, 1, 8, 8) to logits (N, classes)."""
        x = self.fire1(self.stem(images))
        x = self.pool(x + self.fire2(x))
        return self.out(self.fire4(self.fire3(x)).mean((2, 3)))


def splits() -> Data:
    """Return scikit-learn's 1,797 hand-written digits; rewards see the search split only."""
    digits = load_digits()
    images = np.uint8(digits.images * 15)[:, None]
    labels = digits.target.astype(np.int64)
    train, search, test = (
        Split(images[part], labels[part])
        for part in (slice(1000), slice(1000, 1400), slice(1400, None))
    )
    return Data("digits-8x8", 10, train, search, test, mean=(0.3,), std=(0.37,), flip=False)


def trained(data: Data, steps: int = 300) -> nn.Module:
    """Return the network, trained on the training split."""
    torch.manual_seed(0)
    network = SmallSqueezeNet(data.num_classes)
    images, labels = normalize(data.train.images, data), torch.tensor(data.train.labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (128,))
        loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def search(env: CompressionEnv) -> dict:
    """Return the end of the episode with the best accuracy out of five uniform keep ratios."""
    ends = []
    for action in np.linspace(-1, 1, 5, dtype=np.float32):
        env.reset(seed=0)
        terminated = False
        while not terminated:
            _, _, terminated, _, info = env.step(np.array([action]))
        ends.append(info)
    return max(ends, key=lambda info: info["accuracy"])


def main() -> None:
    """Train, search under a budget, and write the smaller network."""
    data = splits()
    network = trained(data)
    # With functions that can be imported, gym.make does as well, and strategies replay anywhere:
    # gym.make("ChannelPrune-v0", network="my_nets:trained", data="my_nets:splits")
    env = compression_env(network, data, latency=None, budgets={"flops": 0.4})
    best = search(env)
    smaller = env.problem.apply(best["strategy"])
    for name, net in (("original", network), ("smaller", smaller)):
        size = sum(parameter.numel() for parameter in net.parameters())
        print(f"{name}: {accuracy(net, data, data.test):.1%} of the test images, {size:,} weights")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.safetensors"
        save_network(
            smaller,
            path,
            name="SmallSqueezeNet",
            num_classes=10,
            configuration=env.problem.configure(best["strategy"]),
            input_shape=(1, 8, 8),
        )
        loaded = load_network(path, build=SmallSqueezeNet)
        assert accuracy(loaded, data, data.test) == accuracy(smaller, data, data.test)
        print(f"saved and loaded again: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
