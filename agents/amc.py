"""AMC: DDPG on one number under a budget, the method that all others are compared with.

After "AMC: AutoML for Model Compression and Acceleration on Mobile Devices" (He, Lin, Liu, Wang,
Li & Han, ECCV 2018, arXiv 1802.03494) and its published code:

- reward R_err = accuracy - 1, paid at the end and copied to every transition of the episode;
- a budget is a wall: an action is moved to where the budget can still be met;
- target: y = r - b + Q'(s', mu'(s')), b a moving average of the batches' mean reward;
- exploration: a normal distribution around the action, truncated to the range of actions, whose
  deviation falls by 5 % an episode;
- one update per transition, at the episode's end; the last 100 episodes are kept.

An environment with budgets is searched as published. Without any, AMC has no front to offer: one
search yields one strategy. Its episodes are then shared by independent searches under budgets of
its own (`TARGETS`), all of which start from the same initial design.

``amc:flops`` and ``amc:params`` take the paper's rewards for "accuracy-guaranteed" compression in
place of R_err, ``-error * log(FLOPs)`` and ``-error * log(parameters)``. These need no budget, so
there is one search. docs/agents.md has the rest.
"""

import copy
import math
from collections.abc import Callable
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from scipy.stats import truncnorm
from stable_baselines3 import DDPG
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.utils import polyak_update
from torch.nn import functional as F

from prune_gym.agents.common.action_spaces import require_actions
from prune_gym.agents.common.api import Settings, problem_of
from prune_gym.agents.common.initial_design import initial_design
from prune_gym.agents.common.sb3_training import Episodes, descend, prefill_replay_buffer
from prune_gym.errors import UserError, unknown
from prune_gym.search_space.budgets import Budgets

# Budgets where the environment has none: shares of the way from the least cost to the original's.
TARGETS = (0.2, 0.4, 0.6, 0.8)
NOISE, DECAY = 1.0, 0.95  # of actions in [-1, 1]; 0.5 of the paper's in [0, 1]
ACTOR_RATE, CRITIC_RATE = 1e-4, 1e-3
BASELINE_RATE = 0.5
KEPT = 100  # episodes
GUARANTEED = ("flops", "params")  # whose logarithm may be a factor of the error


class ErrorReward(gym.Wrapper):
    """AMC's view of a vector environment: a reward at the end, and a wall on one cost.

    The reward is R_err = accuracy - 1, or that times the logarithm of a metric.
    """

    def __init__(self, env: gym.Env, metric: str | None = None) -> None:
        """Wrap a vector environment; there is no wall yet."""
        super().__init__(env)
        self._metric = metric
        self._problem = problem_of(env)
        self._values = self._problem.space.upper.copy()
        self._wall: Budgets | None = None

    def limit(self, cost: str, share: float) -> None:
        """Allow a cost that share of the way from the least that can be reached to the original's.

        Raises:
            UserError: the cost is measured by the clock.
        """
        space, costs = self._problem.space, self._problem.costs
        least, full = costs[cost](space.configure(np.stack([space.lower, space.upper])))
        limits = {cost: (least + share * (full - least)) / full}
        self._wall = Budgets(limits, costs, space)

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode."""
        self._values = self._problem.space.upper.copy()
        return self.env.reset(**kwargs)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """Step with the action that the wall leaves; the reward is that of the paper."""
        within = action if self._wall is None else self._moved(action, self._wall)
        obs, _, terminated, truncated, info = self.env.step(within)
        reward = self._last_reward(info) if terminated else 0.0
        return obs, reward, terminated, truncated, info

    def _last_reward(self, info: dict[str, Any]) -> float:
        error = 1.0 - info["accuracy"]
        return -error if self._metric is None else -error * math.log(info[self._metric])

    def _moved(self, action: np.ndarray, wall: Budgets) -> np.ndarray:
        """Return the action of the nearest value that the wall allows, and keep that value."""
        space, index = self._problem.space, self.get_wrapper_attr("next_decision")
        decision = space.decisions[index]
        allowed = wall.allowed(self._values[None], np.array([index]))[0]
        value = decision.decode(action.item(), allowed)
        self._values[index] = value
        space.advance(np.array([index]), self._values[None])
        return np.array([decision.encode(value)], dtype=np.float32)


class EpisodeBuffer(ReplayBuffer):
    """Keeps an episode back until it ends, and gives all its transitions the last reward."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take SB3's arguments."""
        super().__init__(*args, **kwargs)
        self._episode: list[tuple[np.ndarray, ...]] = []

    def add(self, obs, next_obs, action, reward, done, infos) -> None:
        """Take a transition of the one environment."""
        self._episode.append((obs, next_obs, action, done))
        if done[0]:
            for before, after, chosen, ended in self._episode:
                super().add(before, after, chosen, reward, ended, infos)
            self._episode = []


class AMC(DDPG):
    """SB3's DDPG with AMC's exploration, baseline and learning rates; `make` makes one."""

    baseline: float | None = None

    def _setup_model(self) -> None:
        super()._setup_model()
        self.actor.optimizer.param_groups[0]["lr"] = ACTOR_RATE
        self.critic.optimizer.param_groups[0]["lr"] = CRITIC_RATE

    def _sample_action(self, learning_starts, action_noise=None, n_envs=1):
        assert self._last_obs is not None
        mean = self.predict(cast(np.ndarray, self._last_obs), deterministic=True)[0]
        deviation = NOISE * DECAY**self._episode_num
        low, high = (-1 - mean) / deviation, (1 - mean) / deviation
        action = truncnorm.rvs(low, high, loc=mean, scale=deviation, size=mean.shape)
        return action.astype(np.float32), action.astype(np.float32)

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Update critic and actor ``gradient_steps`` times."""
        self.policy.set_training_mode(True)
        buffer = self.replay_buffer
        assert buffer is not None
        for _ in range(gradient_steps):
            self._n_updates += 1
            batch = buffer.sample(batch_size)
            mean = batch.rewards.mean().item()
            self.baseline = (
                mean
                if self.baseline is None
                else self.baseline + BASELINE_RATE * (mean - self.baseline)
            )
            with torch.no_grad():
                after = batch.next_observations
                future = self.critic_target(after, self.actor_target(after))[0]
                target = batch.rewards - self.baseline + (1 - batch.dones) * future
            error = F.mse_loss(self.critic(batch.observations, batch.actions)[0], target)
            descend(self.critic.optimizer, error)
            states = batch.observations
            descend(
                self.actor.optimizer, -self.critic.q1_forward(states, self.actor(states)).mean()
            )
            polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
            polyak_update(self.actor.parameters(), self.actor_target.parameters(), self.tau)
        self.logger.record("train/critic_loss", error.item())
        self.logger.record("train/baseline", self.baseline)


def make(env: gym.Env, seed: int) -> AMC:
    """Return an agent with the paper's parameters on an environment with a scalar reward."""
    return AMC(
        "MlpPolicy",
        env,
        buffer_size=KEPT * len(problem_of(env).space),
        learning_starts=0,
        batch_size=64,
        tau=0.01,
        gamma=1.0,
        train_freq=(1, "episode"),
        gradient_steps=-1,
        replay_buffer_class=EpisodeBuffer,
        policy_kwargs={"net_arch": [300, 300]},
        seed=seed,
    )


def search_with(name: str) -> Callable[[gym.Env, Settings], AMC]:
    """Return the search function of an accuracy-guaranteed reward, "flops" or "params".

    Raises:
        UserError: no such reward.
    """
    if name not in GUARANTEED:
        raise UserError(unknown("reward of amc", name, GUARANTEED))

    def search(env: gym.Env, settings: Settings) -> AMC:
        require_actions(env, gym.spaces.Box, f"amc:{name}")
        return _search_once(ErrorReward(env, name), settings)

    return search


def search(env: gym.Env, settings: Settings) -> AMC | None:
    """Search under the environment's budgets, or under one of `TARGETS` after the other.

    Returns:
        The agent of the one search; None where there were several.

    Raises:
        UserError: the environment has discrete actions, or all costs are measured by the clock.
    """
    require_actions(env, gym.spaces.Box, "amc")
    problem = problem_of(env)
    costs = [objective for objective in problem.objectives if objective.name != "accuracy"]
    if costs and not (costs := [objective for objective in costs if objective.deterministic]):
        raise UserError(
            "amc searches under budgets, and what is measured by the clock cannot be kept to "
            "beforehand: add a counted cost to the objectives, such as flops"
        )
    view = ErrorReward(env)
    if any(limit < 1 for limit in problem.budgets.limits.values()) or not costs:
        return _search_once(view, settings)
    agent, left = _started(view, settings)
    warm = copy.deepcopy(agent.replay_buffer)
    for index, share in enumerate(TARGETS):
        view.limit(costs[0].name, share)
        agent = make(view, settings.seed + index)
        agent.replay_buffer = copy.deepcopy(warm)
        _learn(agent, len(range(index, left, len(TARGETS))), len(problem.space), settings)
    return None


def _search_once(view: ErrorReward, settings: Settings) -> AMC:
    agent, left = _started(view, settings)
    return _learn(agent, left, len(problem_of(view).space), settings)


def _started(view: ErrorReward, settings: Settings) -> tuple[AMC, int]:
    """Return an agent that has seen the initial design, and how many episodes are left."""
    strategies = initial_design(settings.episodes, len(problem_of(view).space), settings.seed)
    agent = make(view, settings.seed)
    prefill_replay_buffer(agent, strategies)
    return agent, settings.episodes - len(strategies)


def _learn(agent: AMC, episodes: int, steps: int, settings: Settings) -> AMC:
    agent.set_logger(settings.logger)
    if episodes:
        agent.learn(episodes * steps, callback=Episodes(episodes, steps))
    return agent
