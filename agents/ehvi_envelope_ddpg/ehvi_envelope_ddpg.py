"""The main agent: envelope DDPG, with expected hypervolume improvement choosing its evaluations.

The actor and critics of `prune_gym.agents.envelope_ddpg.envelope_ddpg` learn from every
evaluated strategy for all preferences. Before every evaluation the actor rolls out many episodes
without evaluation, greedily and with noise, each for another preference; costs and budgets are
exact there. `prune_gym.agents.bayesian.acquisition.Acquisition` predicts their accuracies,
mutates the best ones, and picks the strategy of the largest expected hypervolume improvement, which
is evaluated. Half of every batch are rolled-out transitions with the predicted accuracy, as in Dyna
(Sutton 1991). A few strategies that are planned from sensitivities take the place of the initial
design (`prune_gym.agents.sensitivity.sensitivity`). In the end the actor learns to propose the
best that was evaluated for every preference and budget
(`prune_gym.agents.ehvi_envelope_ddpg.distillation`).

``ehvi-envelope-ddpg:tchebycheff`` reads preferences in another way at the end: its answers also lie
in the hollows of the front (`prune_gym.objectives.selection.best_for`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from prune_gym.agents.bayesian.acquisition import Acquisition
from prune_gym.agents.bayesian.ehvi import INITIAL
from prune_gym.agents.common.action_spaces import require_actions
from prune_gym.agents.common.api import Settings, problem_of
from prune_gym.agents.common.sb3_training import train_by_episodes
from prune_gym.agents.ehvi_envelope_ddpg.distillation import Archive, imitate
from prune_gym.agents.envelope_ddpg.buffers import VectorReplayBuffer
from prune_gym.agents.envelope_ddpg.envelope_ddpg import EnvelopeDDPG
from prune_gym.agents.sensitivity.sensitivity import planned
from prune_gym.envs.rollouts import Rollouts, rollout
from prune_gym.envs.wrappers import PreferenceConditioned
from prune_gym.errors import UserError, unknown
from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.objectives.objective import episode_return
from prune_gym.objectives.selection import Scalarization

GREEDY, NOISY = 16, 16  # rollouts of the actor before every evaluation
FOCUS = 64  # preferences drawn around people's priorities
IMITATED = 4  # updates at the end for every step of the search,
MOST_IMITATED = 8_000  # but no more: where there are many decisions, more of them gained nothing
REMEMBERED = 50  # evaluations: predictions of earlier ones are forgotten


class EHVIEnvelopeDDPG(EnvelopeDDPG):
    """Envelope DDPG that plays whole strategies, chosen by their expected improvement."""

    def __init__(
        self,
        *args: Any,
        focused: bool = False,
        imagined: bool = True,
        sensitivities: bool = True,
        scalarization: Scalarization = "linear",
        **kwargs: Any,
    ) -> None:
        """Make the agent.

        Args:
            *args: `EnvelopeDDPG`'s.
            focused: choose by expected utility over the environment's preferences, not by
                hypervolume.
            imagined: learn from rolled-out transitions too.
            sensitivities: the surrogate and its candidates use them.
            scalarization: what the best for a preference is that the policy learns at the end.
            **kwargs: `EnvelopeDDPG`'s.
        """
        self.focused, self.imagined, self.sensitivities = focused, imagined, sensitivities
        self.scalarization: Scalarization = scalarization
        super().__init__(*args, **kwargs)

    def learn(self, *args, **kwargs):
        """Learn as SB3 does, then propose the best that was evaluated for what it is asked."""
        super().learn(*args, **kwargs)
        assert isinstance(self.replay_buffer, VectorReplayBuffer)
        if infos := self.replay_buffer.finished:
            problem = self._problem
            values = np.array([problem.values_of(info["strategy"]) for info in infos])
            returns = [episode_return(i, problem.original, problem.objectives) for i in infos]
            imitate(
                self,
                problem,
                Archive(values, np.array(returns)),
                self.sample_preferences,
                updates=min(IMITATED * self.replay_buffer.size(), MOST_IMITATED),
                scalarization=self.scalarization,
            )
        return self

    def _setup_learn(self, *args, **kwargs):
        assert self.env is not None and isinstance(self.replay_buffer, VectorReplayBuffer)
        # Of environments in other processes this is a copy: good for what does not change.
        core = self.env.get_attr("unwrapped")[0]
        self._problem: CompressionProblem = core.problem
        self._reward: str = core.reward
        preferences = self.sample_preferences(FOCUS).cpu().numpy() if self.focused else None
        self.acquisition = Acquisition(self._problem, self.seed, preferences, self.sensitivities)
        self._pending: dict[int, np.ndarray] = {}  # what each environment plays
        self._known = 0
        size = REMEMBERED * (GREEDY + NOISY) * len(self._problem.space)
        self._rollouts = VectorReplayBuffer(
            size,
            self.observation_space,
            self.action_space,
            self.device,
            **self.replay_buffer_kwargs,
        )
        return super()._setup_learn(*args, **kwargs)

    def _sample_action(self, learning_starts, action_noise=None, n_envs=1):
        assert isinstance(self.replay_buffer, VectorReplayBuffer)
        if self.num_timesteps < learning_starts or not self.replay_buffer.finished:
            return super()._sample_action(learning_starts, action_noise, n_envs)
        assert self.env is not None
        places = self.env.get_attr("next_decision")
        for index, place in enumerate(places):
            if place == 0 or index not in self._pending:
                self._pending.pop(index, None)
                self._pending[index] = self._next_strategy()
        decisions = self._problem.decisions
        chosen = [decisions[at].encode(self._pending[i][at]) for i, at in enumerate(places)]
        taken = np.array(chosen, dtype=np.float32)[:, None]
        return taken, taken

    def _next_strategy(self) -> np.ndarray:
        """Return the strategy to evaluate next, its values ``(decisions,)``.

        It is none of those that other environments are about to play.
        """
        self._look_back()
        preferences = self.sample_preferences(GREEDY + NOISY).cpu().numpy()
        noise = np.random.normal(0, self.noise[0], (len(preferences), 1))
        noise[:GREEDY] = 0

        def act(observations: np.ndarray, episodes: np.ndarray) -> np.ndarray:
            seen = np.concatenate([observations, preferences[episodes]], axis=1)
            greedy, _ = self.predict(seen.astype(np.float32))
            jitter = np.random.normal(0, self.noise[1], greedy.shape)
            return np.clip(greedy + noise[episodes] + jitter * (noise[episodes] != 0), -1, 1)

        rolled_out = rollout(self._problem, act, len(preferences), self._reward)
        if self.imagined:
            self._remember(rolled_out, preferences)
        others = np.array(list(self._pending.values())).reshape(-1, len(self._problem.space))
        return self.acquisition.suggest(rolled_out.values, others)

    def _look_back(self) -> None:
        """Tell the surrogate what was evaluated since the last choice."""
        assert isinstance(self.replay_buffer, VectorReplayBuffer)
        infos = self.replay_buffer.finished[self._known :]
        self._known += len(infos)
        if infos:
            values = np.array([self._problem.values_of(info["strategy"]) for info in infos])
            self.acquisition.observe(values, np.array([info["accuracy"] for info in infos]))

    def _remember(self, rolled_out: Rollouts, preferences: np.ndarray) -> None:
        """Keep rolled-out transitions, with the predicted accuracy where an episode ends."""
        rewards = rolled_out.rewards.copy()
        if "accuracy" in self.names:
            predicted = self.acquisition.predict(rolled_out.values)[rolled_out.episode]
            rewards[:, self.names.index("accuracy")] = np.where(rolled_out.ended, predicted, 0)
        seen = preferences[rolled_out.episode]
        before = np.concatenate([rolled_out.observations, seen], axis=1)
        after = np.concatenate([rolled_out.next_observations, seen], axis=1)
        self._rollouts.extend(before, after, rolled_out.actions, rewards, rolled_out.ended)

    def _batch(self, size: int) -> ReplayBufferSamples:
        if not self._rollouts.size():
            return super()._batch(size)
        assert self.replay_buffer is not None
        real = self.replay_buffer.sample(size - size // 2)
        simulated = self._rollouts.sample(size // 2)
        return ReplayBufferSamples(
            *(torch.cat(parts) for parts in zip(real[:5], simulated[:5], strict=True))
        )

    def _excluded_save_params(self) -> list[str]:
        ours = ["acquisition", "_rollouts", "_problem", "_reward", "_pending", "_known"]
        return [*super()._excluded_save_params(), *ours]


def search_with(name: str) -> Callable[[gym.Env, Settings], EnvelopeDDPG]:
    """Return the search function of a variant: "tchebycheff".

    Raises:
        UserError: no such variant.
    """
    if name != "tchebycheff":
        raise UserError(unknown("variant of ehvi-envelope-ddpg", name, ["tchebycheff"]))
    return partial(search, scalarization="tchebycheff")


def search(
    env: gym.Env, settings: Settings, planned_start: bool = True, **parts: Any
) -> EnvelopeDDPG:
    """Learn the front of a vector environment in one run.

    Where a cost is measured by the clock, returns cannot be predicted: noise explores instead.

    Args:
        env: the environment.
        settings: how to search.
        planned_start: begin with planned strategies, not with the initial design that agents share.
        **parts: arguments of `EHVIEnvelopeDDPG`.

    Raises:
        UserError: parts are given where costs are measured by the clock.
    """
    require_actions(env, gym.spaces.Box, "ehvi-envelope-ddpg")
    conditioned = PreferenceConditioned(env, settings.priorities)
    problem = problem_of(env)
    known = all(objective.deterministic for objective in problem.objectives)
    options: dict[str, Any] = {"env": conditioned, "learning_starts": 0, "seed": settings.seed}
    focused = settings.priorities is not None
    if not known:
        if parts:
            raise UserError("this agent needs costs that are computed: take out latency='measured'")
        noisy = EnvelopeDDPG(**options)
        train_by_episodes(noisy, settings)
        return noisy
    agent = EHVIEnvelopeDDPG(focused=focused, **options, **parts)
    initial = None
    if planned_start:
        strategies = planned(problem, min(INITIAL, settings.episodes), settings.seed)
        initial = problem.space.encode(strategies)
    train_by_episodes(agent, settings, initial)
    return agent
