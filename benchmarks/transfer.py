"""A policy learned on one network, run unchanged on another.

    python benchmarks/transfer.py --episodes 100 --seeds 3

The envelope-DDPG agent learns on ``--source`` and, separately, on ``--target``. Both policies then
answer for a fixed grid of preferences on the target, an episode each. Beside them: as many random
ratios, and a uniform sweep of as many. The figure is the hypervolume of those strategies alone, not
of what was evaluated while learning. All of it runs in one process and shares the accuracies of
evaluated strategies.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.logger import Logger

import prune_gym  # noqa: F401  (registers the ids)
from prune_gym.agents import Settings, find_agent
from prune_gym.experiments.benchmark.preferences import preference_grid, proposals
from prune_gym.objectives.objective import episode_return
from prune_gym.objectives.pareto import hypervolume

AGENT = "ehvi-envelope-ddpg"
Row = tuple[str, int, int, float]  # strategies of, seed, how many, hypervolume


class Returns(gym.Wrapper):
    """Collects the vector return of every episode."""

    def __init__(self, env: gym.Env) -> None:
        """Wrap a vector environment."""
        super().__init__(env)
        self.returns: list[np.ndarray] = []

    def step(self, action: Any) -> Any:
        """Step and collect."""
        result = self.env.step(action)
        if result[2]:
            core: Any = self.env.unwrapped
            self.returns.append(episode_return(result[4], core.problem.original, core.objectives))
        return result


def learn(env_id: str, episodes: int, seed: int) -> Any:
    """Return the policy that the agent learns on an environment."""
    return find_agent(AGENT)(gym.make(env_id), Settings(episodes, seed, None, Logger(None, [])))


def answers(policy: Any, env_id: str) -> np.ndarray:
    """Return the returns of a policy's strategies for the grid of preferences, ``(n, k)``."""
    core: Any = gym.make(env_id).unwrapped
    grid = preference_grid(core.reward_dim)
    return proposals(core, policy, np.empty((0, core.reward_dim)), grid)[1]


def played(agent: str, env_id: str, episodes: int, seed: int) -> np.ndarray:
    """Return the returns of the strategies that an agent without a policy plays, ``(n, k)``."""
    env = Returns(gym.make(env_id))
    find_agent(agent)(env, Settings(episodes, seed, None, Logger(None, [])))
    return np.array(env.returns)


def compare(source: str, target: str, episodes: int, seed: int) -> list[Row]:
    """Return the hypervolume on ``target`` of everything compared."""
    core: Any = gym.make(target).unwrapped
    count = len(preference_grid(core.reward_dim))
    found = {
        f"policy of {source}": answers(learn(source, episodes, seed), target),
        f"policy of {target}": answers(learn(target, episodes, seed), target),
        "random ratios": played("random-ratio", target, count, seed),
        "uniform": played("uniform", target, count, seed),
    }
    return [
        (name, seed, len(returns), round(hypervolume(returns, core.problem.reference_point), 5))
        for name, returns in found.items()
    ]


def main() -> None:
    """Compare for every seed and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="ChannelPrune-ResNet20-v0")
    parser.add_argument("--target", default="ChannelPrune-ResNet56-v0")
    parser.add_argument("--episodes", type=int, default=100, help="of each learning")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("transfer.csv"))
    options = parser.parse_args()
    rows: list[Row] = []
    for seed in range(options.seeds):
        for row in compare(options.source, options.target, options.episodes, seed):
            rows.append(row)
            print(*row, flush=True)
    with options.out.open("w", newline="") as file:
        csv.writer(file).writerows([("strategies of", "seed", "count", "hypervolume"), *rows])
    for name in dict.fromkeys(row[0] for row in rows):
        values = [row[3] for row in rows if row[0] == name]
        print(f"{name:>40}: {np.mean(values):.4f}  ({min(values):.4f} to {max(values):.4f})")


if __name__ == "__main__":
    main()
