"""A multi-objective agent of morl-baselines: CAPQL on a vector id, as it is.

pip install morl-baselines
python examples/morl_capql.py
"""

import argparse

import gymnasium as gym
import numpy as np
from morl_baselines.multi_policy.capql.capql import CAPQL

import prune_gym  # noqa: F401  registers the environments

ID, DECISIONS = "ChannelPrune-Table-v0", 5


def main(arguments: list[str] | None = None) -> None:
    """Train CAPQL, then ask it for two preferences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=200)
    episodes = parser.parse_args(arguments).episodes

    env, eval_env = gym.make(ID), gym.make(ID)
    agent = CAPQL(env, gamma=1.0, learning_starts=30 * DECISIONS, log=False, seed=0)
    problem = env.unwrapped.problem
    agent.train(
        total_timesteps=episodes * DECISIONS,
        eval_env=eval_env,
        ref_point=problem.reference_point,
        eval_freq=episodes * DECISIONS,
    )
    for preference in ([0.8, 0.1, 0.1], [0.4, 0.3, 0.3]):
        (obs, info), terminated = env.reset(seed=0), False
        while not terminated:
            action = agent.eval(obs, np.array(preference))
            obs, reward, terminated, truncated, info = env.step(action)
        print(
            preference,
            f"accuracy {info['accuracy']:.1%}, {info['flops'] / 1e6:.1f} M multiply-adds",
        )


if __name__ == "__main__":
    main()
