"""What the actor's proposals add to the search: the same choice of strategies without them.

    python benchmarks/without_actor.py --env ChannelPrune-Table-v0 --evaluations 300 --seeds 5

Prints the hypervolume of everything evaluated, one line per seed.
"""

import argparse

import gymnasium as gym
import numpy as np

import prune_gym  # noqa: F401  (registers the ids)
from agents.parts.imagination import Imagination
from agents.parts.playing import play
from agents.parts.warm_up import warm_up
from prune_gym.pareto import hypervolume


def search(env: gym.Env, evaluations: int, seed: int) -> np.ndarray:
    """Return the returns ``(evaluations, k)`` of a search that imagines without an actor."""
    core = env.unwrapped
    imagination, returns = Imagination(core, seed), []
    actions = warm_up(evaluations, len(core.decisions), seed)
    while len(returns) < evaluations:
        values, accuracies = [], []
        for row in actions:
            found, info = play(env, row)
            returns.append(found)
            values.append(core.values_of(info["strategy"]))
            accuracies.append(info["accuracy"])
        imagination.learn(np.array(values), np.array(accuracies))
        chosen = imagination.choose(np.empty((0, len(core.decisions))))
        actions = core.plan.actions_for(chosen)[None]
    return np.array(returns)


def main() -> None:
    """Run the searches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="ChannelPrune-Table-v0")
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    for seed in range(options.seeds):
        env = gym.make(options.env)
        returns = search(env, options.evaluations, seed)
        print(seed, round(hypervolume(returns, env.unwrapped.reference_point), 4), flush=True)


if __name__ == "__main__":
    main()
