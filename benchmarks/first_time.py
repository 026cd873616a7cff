"""Where the time of a network's first environment goes.

    OMP_NUM_THREADS=1 python benchmarks/first_time.py resnet18 deit_tiny

Prints seconds of processor time, of one thread, for networks with random weights on 512 random
training images, with an empty cache. Imports are not counted; the profiler adds a little.
"""

import argparse
import cProfile
import os
import pstats
import tempfile
import time

import numpy as np
import torch

from prune_gym import models
from prune_gym.datasets import Data, Split
from prune_gym.envs.make import compression_env

CLASSES = 10
PARTS = {
    "all": "envs/make.py:compression_env",
    "trace": "graph/trace.py:trace",
    "second moments": "calibration.py:_second_moments",
    "order of the channels": "calibration.py:_rank",
    "branches of the blocks": "residual_blocks.py:branch_shares",
    "check of a cut network": "verify.py:check_cut",
    "images": "normalize.py:normalize",
    "cache keys": "fingerprint.py:fingerprint",
}


def random_split(count: int, shape: tuple[int, ...], rng: np.random.Generator) -> Split:
    """Return random images with random labels."""
    images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return Split(images, rng.integers(0, CLASSES, count))


def seconds(name: str, decide: tuple[str, ...]) -> dict[str, float]:
    """Return the processor time of making an environment, and that of its parts."""
    shape, rng = models.NETWORKS[name].input_shape, np.random.default_rng(0)
    splits = [random_split(count, shape, rng) for count in (512, 64, 64)]
    data = Data("random", CLASSES, *splits, (0.5,) * 3, (0.25,) * 3, flip=False)
    network, profile = models.build(name, CLASSES), cProfile.Profile(time.process_time)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        profile.runcall(compression_env, network, data, latency=None, decide=decide)
    found = dict.fromkeys(PARTS, 0.0)
    for (file, _, function), times in pstats.Stats(profile).stats.items():
        for part, called in PARTS.items():
            if f"{file}:{function}".endswith(f"/{called}"):
                found[part] += times[3]
    return found


def main() -> None:
    """Print a table, a row for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NETWORK")
    parser.add_argument("--decide", nargs="+", default=["channels"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| network |", " | ".join(PARTS), "|")
    print("|---" * (len(PARTS) + 1) + "|")
    for name in options.names:
        found = seconds(name, tuple(options.decide))
        print(f"| {name} |", " | ".join(f"{each:.2f}" for each in found.values()), "|", flush=True)


if __name__ == "__main__":
    main()
