"""Stable-Baselines3 on an environment with one number as the reward.

python examples/sb3_sac.py
"""

import argparse

import gymnasium as gym
from stable_baselines3 import SAC

import prune_gym  # registers the environments

DECISIONS = 5


def main(arguments: list[str] | None = None) -> None:
    """Train SAC, then print the strategy that its policy proposes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=200)
    episodes = parser.parse_args(arguments).episodes

    # Half the weight on accuracy, the other half on multiply-adds; at most 40 % of the memory.
    env = gym.make("ChannelPrune-Table-v0", budgets={"memory": 0.4})
    scalar = prune_gym.ScalarReward(env, {"accuracy": 0.5, "flops": 0.5})
    # One episode is one pass over the layers, so nothing is discounted.
    agent = SAC("MlpPolicy", scalar, gamma=1.0, learning_starts=4 * DECISIONS, seed=0)
    agent.learn(episodes * DECISIONS)

    obs, info = scalar.reset(seed=0)
    terminated = False
    while not terminated:
        action, _ = agent.predict(obs, deterministic=True)
        obs, reward, terminated, truncated, info = scalar.step(action)
    original = env.unwrapped.problem.original
    print(f"accuracy {original['accuracy']:.1%} before, {info['accuracy']:.1%} after")
    print(
        f"multiply-adds {original['flops'] / 1e6:.1f} M before, {info['flops'] / 1e6:.1f} M after"
    )


if __name__ == "__main__":
    main()
