"""DDPG on a scalar reward: the searcher of each stage of the two-stage paper.

After "Deep Model Compression via Two-Stage Deep Reinforcement Learning" (Zhan, Lin & Cao, arXiv
1912.02254), whose body is not public: one DDPG agent prunes (``TwoStagePrune`` ids), a similar
one then decides bits (``Quantize`` ids); ``prune-gym two-stage`` chains them. Network sizes and
exploration are those of AMC (arXiv 1802.03494). docs/two-stage.md has what is inferred.
"""

import gymnasium as gym
import numpy as np
from stable_baselines3 import DDPG
from stable_baselines3.common.noise import NormalActionNoise

from prune_gym.agents.common.action_spaces import require_actions
from prune_gym.agents.common.api import Settings, problem_of
from prune_gym.agents.common.sb3_training import train_by_episodes
from prune_gym.envs.wrappers import ScalarReward

NOISE, DECAY = 1.0, 0.95  # standard deviation, in units of actions in [-1, 1], and per episode


class DecayingNoise(NormalActionNoise):
    """Normal noise whose standard deviation falls by a factor after every episode."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Take the action's shape."""
        super().__init__(np.zeros(shape, np.float32), np.full(shape, NOISE / DECAY, np.float32))

    def reset(self) -> None:
        """Begin the next episode; SB3 calls it before the first one too."""
        self._sigma = self._sigma * DECAY


def search(env: gym.Env, settings: Settings) -> DDPG:
    """Learn from the initial design, then search for the rest of the episodes.

    Raises:
        UserError: the environment has discrete actions, or an unknown objective has a priority.
    """
    require_actions(env, gym.spaces.Box, "two-stage")
    steps, shape = len(problem_of(env).space), env.action_space.shape
    assert shape is not None
    model = DDPG(
        "MlpPolicy",
        ScalarReward(env, settings.priorities),
        learning_rate=1e-3,
        learning_starts=0,
        buffer_size=settings.episodes * steps,
        batch_size=64,
        tau=0.01,
        gamma=1.0,
        action_noise=DecayingNoise(shape),
        policy_kwargs={"net_arch": [300, 300]},
        seed=settings.seed,
    )
    train_by_episodes(model, settings)
    return model
