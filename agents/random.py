"""Random strategies: every action uniform over the action space. The least an agent must beat."""

import gymnasium as gym

from agents.parts.settings import Settings


def search(env: gym.Env, settings: Settings) -> None:
    """Play ``settings.episodes`` episodes of random actions."""
    env.action_space.seed(settings.seed)
    for episode in range(settings.episodes):
        env.reset(seed=settings.seed if episode == 0 else None)
        terminated = False
        while not terminated:
            _, _, terminated, _, _ = env.step(env.action_space.sample())
