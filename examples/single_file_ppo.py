"""A whole agent in one file, in the manner of CleanRL: PPO with action masks over a vector of envs.

    python examples/single_file_ppo.py

It uses only ids of the package, ``gym.make_vec`` and PyTorch.
"""

import argparse

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import nn
from torch.distributions import Categorical

import prune_gym  # noqa: F401  registers the environments

ID = "ChannelPrune-Table-Discrete-Scalar-v0"
ENVS, DECISIONS = 8, 5
EPOCHS, CLIP, ENTROPY = 4, 0.2, 0.01


def mlp(inputs: int, outputs: int) -> nn.Module:
    """Return a network with two hidden layers."""
    return nn.Sequential(
        *(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs))
    )


def main(arguments: list[str] | None = None) -> None:
    """Train, and print the mean return of each tenth of the training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=100, help="each of 8 episodes")
    updates = parser.parse_args(arguments).updates

    torch.manual_seed(0)
    envs = gym.make_vec(
        ID,
        num_envs=ENVS,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        budgets={"memory": 0.4},
    )
    features, actions = envs.single_observation_space.shape[0], envs.single_action_space.n
    actor, critic = mlp(features, actions), mlp(features, 1)
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=3e-3)

    def policy(states: torch.Tensor, masks: torch.Tensor) -> Categorical:
        return Categorical(logits=actor(states).masked_fill(~masks, -1e8))

    obs, _ = envs.reset(seed=0)
    returns = []
    for update in range(updates):
        steps = []
        for _ in range(DECISIONS):  # all episodes have the same length: one pass over the layers
            masks = torch.tensor(np.stack(envs.call("action_masks")))
            states = torch.tensor(obs)
            with torch.no_grad():
                choice = policy(states, masks).sample()
                log_prob = policy(states, masks).log_prob(choice)
            obs, rewards, *_ = envs.step(choice.numpy())
            rewards = torch.tensor(rewards, dtype=torch.float32)
            steps.append((states, masks, choice, log_prob, rewards))
        states, masks, choices, log_probs, rewards = (
            torch.stack(part) for part in zip(*steps, strict=True)
        )
        to_go = rewards.flip(0).cumsum(0).flip(0)  # undiscounted, from each step to the end
        returns.append(float(to_go[0].mean()))
        for _ in range(EPOCHS):
            values = critic(states)[..., 0]
            advantage = to_go - values.detach()
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            now = policy(states, masks)
            ratio = (now.log_prob(choices) - log_probs).exp()
            clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
            gain = torch.minimum(ratio * advantage, clipped * advantage).mean()
            loss = -gain + 0.5 * (to_go - values).square().mean() - ENTROPY * now.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if (update + 1) % max(updates // 10, 1) == 0:
            print(f"{(update + 1) * ENVS} episodes: return {np.mean(returns[-10:]):.3f}")
    envs.close()


if __name__ == "__main__":
    main()
