"""What retraining beforehand is worth: accuracy over density, pruned at once and from a library.

python benchmarks/library.py --env PruneQuantize-ResNet20-v0 --library library-resnet20-digits
"""

import argparse

import gymnasium as gym
import numpy as np

import prune_gym  # noqa: F401  (registers the ids)
from prune_gym.agents.common.rollout import play

DENSITIES = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05)


def main() -> None:
    """Print a table in Markdown: accuracy on the search split, in per cent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="PruneQuantize-ResNet20-v0")
    parser.add_argument("--library", required=True)
    parser.add_argument("--bits", type=int, default=8)
    options = parser.parse_args()
    variants = {
        "pruned at once": {"repair": "none"},
        "pruned at once, repaired": {},
        "from the library": {"library": options.library},
    }
    print("| density |", " | ".join(variants), "|\n|---|" + "---|" * len(variants))
    rows = {
        name: accuracies(gym.make(options.env, min_density=min(DENSITIES), **kwargs), options.bits)
        for name, kwargs in variants.items()
    }
    for index, density in enumerate(DENSITIES):
        cells = " | ".join(f"{100 * row[index]:.1f}" for row in rows.values())
        print(f"| {density:g} | {cells} |")


def accuracies(env: gym.Env, bits: int) -> list[float]:
    """Return the accuracy at every density, with the same bits in every layer."""
    space, found = env.unwrapped.problem.space, []
    for density in DENSITIES:
        values = np.array([bits if "bits" in d.kind else density for d in space.decisions])
        found.append(play(env, space.encode(values))[1]["accuracy"])
    return found


if __name__ == "__main__":
    main()
