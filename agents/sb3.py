"""Any Stable-Baselines3 class as an agent, on the scalar view of the reward.

``sb3:<class>`` learns for one preference, ``settings.priorities``. The parameters are SB3's, but
for what the length of a run dictates.
"""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise

from prune_gym.agents.common.action_spaces import require_actions
from prune_gym.agents.common.api import Settings, problem_of
from prune_gym.agents.common.sb3_training import train_by_episodes
from prune_gym.envs.wrappers import ScalarReward
from prune_gym.errors import UserError, unknown

CLASSES = ("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3")
CONTINUOUS_ONLY, DISCRETE_ONLY = ("DDPG", "SAC", "TD3"), ("DQN",)
NOISE = 0.1  # DDPG and TD3 explore by it alone; the TD3 paper's (Fujimoto et al., ICML 2018)


def search_with(name: str) -> Callable[[gym.Env, Settings], BaseAlgorithm]:
    """Return the search function of an SB3 class by its name.

    Raises:
        UserError: no such class.
    """
    check_class(name)

    def search(env: gym.Env, settings: Settings) -> BaseAlgorithm:
        require_class_actions(env, name, "sb3")
        return learned(name, ScalarReward(env, settings.priorities), settings)

    return search


def check_class(name: str) -> None:
    """Raise ``ValueError`` where SB3 has no such class."""
    if name not in CLASSES:
        raise UserError(unknown("Stable-Baselines3 class", name, CLASSES))


def require_class_actions(env: gym.Env, name: str, family: str) -> None:
    """Raise ``ValueError`` where the environment's actions are not of the kind a class needs."""
    if name in DISCRETE_ONLY:
        require_actions(env, gym.spaces.Discrete, f"{family}:{name}")
    elif name in CONTINUOUS_ONLY:
        require_actions(env, gym.spaces.Box, f"{family}:{name}")


def learned(name: str, env: gym.Env, settings: Settings) -> BaseAlgorithm:
    """Return a model of a class that has played the initial design and learned for the rest.

    Args:
        name: the class.
        env: an environment with a scalar reward.
        settings: how long, and the seed.
    """
    steps = len(problem_of(env).space)
    options = _options(name, steps, settings.episodes)
    model = getattr(stable_baselines3, name)("MlpPolicy", env, seed=settings.seed, **options)
    train_by_episodes(model, settings)
    return model


def _options(name: str, steps: int, episodes: int) -> dict:
    """Return what differs from SB3's defaults, for episodes of ``steps`` decisions."""
    options: dict = {"gamma": 1.0}
    if name in CONTINUOUS_ONLY + DISCRETE_ONLY:  # those with a replay buffer
        options |= {"learning_starts": 0, "buffer_size": episodes * steps}
    if name in ("DDPG", "TD3"):
        options["action_noise"] = NormalActionNoise(np.zeros(1), np.full(1, NOISE))
    elif name == "DQN":
        # SB3's 10,000 steps are longer than a run, and so is what its tenth of exploring is for.
        options |= {"target_update_interval": steps, "exploration_fraction": 0.5}
    elif name == "PPO":
        options |= {"n_steps": 4 * steps, "batch_size": 4 * steps}
    return options
