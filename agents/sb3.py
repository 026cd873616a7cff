"""Any Stable-Baselines3 class as an agent, on the scalar view of the reward."""

from collections.abc import Callable

import gymnasium as gym
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.episodes import Episodes
from agents.settings import Settings
from agents.spaces import require_actions
from prune_gym.errors import unknown
from prune_gym.wrappers import ScalarReward

CLASSES = ("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3")
CONTINUOUS_ONLY, DISCRETE_ONLY = ("DDPG", "SAC", "TD3"), ("DQN",)


def search_with(name: str) -> Callable[[gym.Env, Settings], BaseAlgorithm]:
    """Return the search function of an SB3 class by its name.

    Raises:
        ValueError: no such class.
    """
    if name not in CLASSES:
        raise ValueError(unknown("Stable-Baselines3 class", name, CLASSES))
    algorithm = getattr(stable_baselines3, name)

    def search(env: gym.Env, settings: Settings) -> BaseAlgorithm:
        if name in DISCRETE_ONLY:
            require_actions(env, gym.spaces.Discrete, f"sb3:{name}")
        elif name in CONTINUOUS_ONLY:
            require_actions(env, gym.spaces.Box, f"sb3:{name}")
        scalar = ScalarReward(env, settings.priorities)
        steps = len(env.unwrapped.decisions)  # type: ignore[attr-defined]
        options: dict = {"gamma": 1.0, "seed": settings.seed}
        if name in CONTINUOUS_ONLY + DISCRETE_ONLY:  # those with a replay buffer
            options["learning_starts"] = max(settings.episodes // 5, 1) * steps
        elif name == "PPO":
            options |= {"n_steps": 4 * steps, "batch_size": 4 * steps}
        model = algorithm("MlpPolicy", scalar, **options)
        model.set_logger(settings.logger)
        model.learn(settings.episodes * steps, callback=Episodes(settings.episodes))
        return model

    return search
