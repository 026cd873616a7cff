"""Draw one strategy of every family of environments, and pairs of digits, for the documentation.

    python benchmarks/env_pictures.py --out docs/images

Each strategy is played like one of the initial design: a random overall ratio, with noise.
"""

import argparse
from pathlib import Path

import gymnasium as gym
import numpy as np
from PIL import Image

import prune_gym  # noqa: F401  registers the environments
from prune_gym.agents.common.initial_design import random_ratio
from prune_gym.agents.common.rollout import play
from prune_gym.datasets import digit_pairs

IDS = {
    "channel-prune": "ChannelPrune-VGG16-v0",
    "block-prune": "BlockPrune-ResNet56-v0",
    "joint-prune": "JointPrune-ResNet20-v0",
    "quantize": "Quantize-VGG16-v0",
    "prune-quantize": "PruneQuantize-VGG16-v0",
    "two-stage-prune": "TwoStagePrune-VGG16-v0",
    "table": "ChannelPrune-Table-v0",
}
SEED = 1
PAIRS, ENLARGED = 10, 3


def main() -> None:
    """Write a picture for every family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    out = parser.parse_args().out
    for name, env_id in IDS.items():
        env = gym.make(env_id, render_mode="rgb_array")
        decisions = len(env.unwrapped.problem.space)
        play(env, random_ratio(np.random.default_rng(SEED), decisions))
        Image.fromarray(env.render()).save(out / f"env-{name}.png", optimize=True)
    images = digit_pairs.load().search.images[:PAIRS]
    row = Image.fromarray(np.hstack(images.transpose(0, 2, 3, 1)))
    row = row.resize((ENLARGED * row.width, ENLARGED * row.height), Image.Resampling.NEAREST)
    row.save(out / "digit-pairs.png", optimize=True)


if __name__ == "__main__":
    main()
