"""Hypervolume of agents at equal numbers of evaluated strategies.

    python benchmarks/fronts.py --env ChannelPrune-VGG16-v0 --episodes 150 --seeds 3

Every agent evaluates the same number of strategies. Agents and seeds run in one process and share
the memo of evaluated strategies, so the figures are the same as in separate runs; times are not
measured here. ``uniform`` has no randomness and is run once.
"""

import argparse
import csv
from pathlib import Path

import gymnasium as gym
import numpy as np
from stable_baselines3.common.logger import Logger

import prune_gym  # noqa: F401  (registers the ids)
from agents import Settings, find_agent
from prune_gym.pareto import hypervolume


class Returns(gym.Wrapper):
    """Collects the vector return of every episode."""

    def __init__(self, env: gym.Env) -> None:
        """Wrap a vector environment."""
        super().__init__(env)
        self.returns: list[np.ndarray] = []

    def reset(self, **kwargs):
        """Start an episode."""
        self._sum = np.zeros(self.env.unwrapped.reward_dim)
        return self.env.reset(**kwargs)

    def step(self, action):
        """Step and collect."""
        result = self.env.step(action)
        self._sum += result[1]
        if result[2]:
            self.returns.append(self._sum)
        return result


def main() -> None:
    """Run the comparison and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="ChannelPrune-VGG16-v0")
    parser.add_argument(
        "--agents", nargs="+", default=["envelope-ddpg", "random-ratio", "random", "uniform"]
    )
    parser.add_argument("--episodes", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("fronts.csv"))
    options = parser.parse_args()
    rows = []
    for agent in options.agents:
        for seed in range(1 if agent == "uniform" else options.seeds):
            env = Returns(gym.make(options.env))
            settings = Settings(options.episodes, seed, None, Logger(None, []))
            find_agent(agent)(env, settings)
            reference = env.unwrapped.reference_point
            for count in sorted({options.episodes // 3, options.episodes}):
                volume = hypervolume(np.array(env.returns[:count]), reference)
                rows.append([options.env, agent, seed, count, round(volume, 5)])
                print(*rows[-1], flush=True)
    with options.out.open("w", newline="") as file:
        csv.writer(file).writerows([["env", "agent", "seed", "evaluations", "hypervolume"], *rows])
    for agent in options.agents:
        final = [row[4] for row in rows if row[1] == agent and row[3] == options.episodes]
        print(f"{agent:>16}: {np.mean(final):.4f}  ({min(final):.4f} to {max(final):.4f})")


if __name__ == "__main__":
    main()
