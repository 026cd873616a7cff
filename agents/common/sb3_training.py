"""Training Stable-Baselines3 models by episodes: initial design first, then their own search."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from prune_gym.agents.common.api import Settings
from prune_gym.agents.common.initial_design import initial_design


def train_by_episodes(
    model: BaseAlgorithm, settings: Settings, initial: np.ndarray | None = None
) -> None:
    """Play the initial design and let a model learn for the rest of the episodes.

    Args:
        model: an SB3 model with one environment, which has learned nothing yet.
        settings: how long, the seed of the initial design, and where the model's own figures go.
        initial: actions of the initial design, ``(strategies, decisions)``; None: the design that
            agents share.
    """
    env = model.get_env()
    assert env is not None
    decisions = len(env.get_attr("problem")[0].space)
    model.set_logger(settings.logger)
    if initial is None:
        initial = initial_design(settings.episodes, decisions, settings.seed)
    prefill_replay_buffer(model, initial)
    if left := settings.episodes - len(initial):
        model.learn(left * decisions, callback=Episodes(left, decisions), log_interval=1)


def prefill_replay_buffer(model: BaseAlgorithm, strategies: np.ndarray) -> None:
    """Play whole strategies on a model's environment and keep the transitions in its replay buffer.

    The reward and the observation are those of the model's own environment, wrappers included.
    On-policy classes have no replay buffer: they play the strategies and learn nothing from them.

    Args:
        model: an SB3 model with one environment.
        strategies: actions in [-1, 1], ``(strategies, decisions)``; on discrete actions the
            nearest one is taken. Those of decisions that are not made (in a skipped block) are
            not played.
    """
    env = model.get_env()
    assert env is not None and env.num_envs == 1
    buffer: Any = model.replay_buffer if isinstance(model, OffPolicyAlgorithm) else None
    observation = env.reset()
    for strategy in strategies:
        done = False
        while not done:
            asked = strategy[env.get_attr("next_decision")[0]]
            action = nearest_action(asked, env.action_space)[None]
            following, reward, dones, infos = env.step(action)
            done = dones[0]  # and then `following` belongs to the next episode
            after = infos[0]["terminal_observation"][None] if done else following
            if buffer is not None:
                buffer.add(observation, after, action, reward, dones, infos)
            observation = following


def nearest_action(asked: float, space: gym.Space) -> np.ndarray:
    """Return the action of a space that is nearest to a number in [-1, 1]."""
    if isinstance(space, gym.spaces.Discrete):
        return np.array(round((float(asked) + 1) / 2 * (int(space.n) - 1)))
    return np.array([asked], dtype=np.float32)


class Episodes(BaseCallback):
    """End ``learn`` after a number of episodes, whatever their lengths.

    An episode that skips residual blocks is shorter than others, and on-policy classes would play
    their last batch out. What off-policy classes do by SB3's progress (exploration, the homotopy)
    goes by episodes too.
    """

    def __init__(self, episodes: int, longest: int) -> None:
        """Allow this many episodes of at most ``longest`` steps."""
        super().__init__()
        self._episodes, self._longest, self._finished = episodes, longest, 0

    def _on_step(self) -> bool:
        ended = int(self.locals["dones"].sum())
        if ended:
            self._finished += ended
            expected = round(self.num_timesteps * self._episodes / self._finished)
            # SB3's progress is the share of this.
            self.model._total_timesteps = max(expected, self.num_timesteps + self._longest)
        return self._finished < self._episodes


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """Move the optimizer's parameters against the gradient of the loss."""
    optimizer.zero_grad()
    # Of nothing else: an actor's loss goes through critics, whose gradients nobody reads.
    loss.backward(inputs=[each for group in optimizer.param_groups for each in group["params"]])
    optimizer.step()
