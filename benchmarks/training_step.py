"""Seconds of a training step of networks with strided depthwise convolutions.

    python benchmarks/training_step.py --network mobilenet_v1 mobilenet_v2

Interleaved: a step as PyTorch does it, then one with `fast_gradients`, and so on. Printed are
the medians, and the median and quartiles of the steps' ratios.
"""

import argparse
import time
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn

from prune_gym import models
from prune_gym._utils.device import fast_forward
from prune_gym.compression.depthwise_gradients import fast_gradients


def step(network: nn.Module, images: torch.Tensor, context: AbstractContextManager) -> float:
    """Return the seconds of one forward and backward pass."""
    start = time.perf_counter()
    with context, fast_forward():
        loss = network(images).float().logsumexp(1).mean()
        loss.backward()
    return time.perf_counter() - start


def both(network: nn.Module, images: torch.Tensor) -> tuple[float, float]:
    """Return the seconds without and with fast gradients."""
    plain = step(network, images, nullcontext())
    return plain, step(network, images, fast_gradients(network))


def main() -> None:
    """Print a line for every network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", nargs="+", default=["mobilenet_v1", "mobilenet_v2"])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    for name in options.network:
        network = models.build(name, 10).to(memory_format=torch.channels_last).train()
        images = torch.randn(options.batch_size, 3, 32, 32)
        images = images.contiguous(memory_format=torch.channels_last)
        pairs = np.array([both(network, images) for _ in range(options.steps + 1)][1:])
        plain, fast = np.median(pairs, axis=0)
        low, middle, high = np.quantile(pairs[:, 0] / pairs[:, 1], (0.25, 0.5, 0.75))
        print(
            f"{name}: {plain:.2f} s, with fast_gradients {fast:.2f} s: "
            f"{middle:.2f} times as fast (quartiles {low:.2f} to {high:.2f})"
        )


if __name__ == "__main__":
    main()
