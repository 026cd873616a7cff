"""Agents of morl-baselines: multi-objective reinforcement learning as rivals, on the vector reward.

``morl:CAPQL`` (Lu, Herman & Yu, ICLR 2023), ``morl:GPI-LS`` (Alegre et al., AAMAS 2023),
``morl:PCN`` (Reymond, Bargiacchi & Nowe, AAMAS 2022) and ``morl:MORLD`` (MORL/D with MOSAC, Felten,
Talbi & Danoy, JAIR 2024). Their parameters are those of morl-baselines, but for what the length of
a run dictates. Every episode counts as an evaluation. GPI-LS chooses preferences by test episodes,
which count too. Those of PCN and MORL/D change nothing of what is learned, and are left out.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from safetensors.torch import save_file

from prune_gym.agents.common.action_spaces import require_actions
from prune_gym.agents.common.api import Settings, problem_of
from prune_gym.agents.common.initial_design import initial_design
from prune_gym.errors import MissingExtraError, UserError, unknown

try:
    from morl_baselines.multi_policy.capql.capql import CAPQL
    from morl_baselines.multi_policy.gpi_pd.gpi_pd_continuous_action import GPILSContinuousAction
    from morl_baselines.multi_policy.morld.morld import MORLD
    from morl_baselines.multi_policy.pcn.pcn import PCN, ContinuousActionsDefaultModel
except ImportError as error:
    raise MissingExtraError(
        f"morl: agents need an extra ({error}): pip install 'prune-gym[morl]'"
    ) from error

CAPQL_BATCH = 128  # its default
ITERATIONS = 10  # of agents that learn and test themselves in turn


class ConditionedPolicy:
    """A trained policy that answers for any preference."""

    def __init__(self, agent: Any, names: list[str]) -> None:
        """Take an agent of morl-baselines and the names of the objectives, in order."""
        self._agent, self.names = agent, names

    def predict(self, observation: np.ndarray, preference: np.ndarray) -> tuple[np.ndarray, None]:
        """Return the action for an observation and weights over the objectives ``(k,)``."""
        return self._agent.eval(observation, np.asarray(preference)), None

    def save(self, path: Path) -> None:
        """Write the weights of the policy, as safetensors."""
        save_file(self._agent.policy.state_dict(), path)


def search_with(name: str) -> Callable[[gym.Env, Settings], ConditionedPolicy | None]:
    """Return the search function of an algorithm by its name.

    Raises:
        UserError: no such algorithm.
    """
    if name not in ALGORITHMS:
        raise UserError(unknown("algorithm of morl-baselines", name, ALGORITHMS))

    def search(env: gym.Env, settings: Settings) -> ConditionedPolicy | None:
        require_actions(env, gym.spaces.Box, f"morl:{name}")
        problem = problem_of(env)
        decisions = len(problem.space)
        played = _Played(env, settings, decisions)
        with _seeded(settings.seed):
            agent, options = ALGORITHMS[name](played, settings, len(played.initial), decisions)
            try:
                while True:  # GPI-LS ends early where it knows no preference to improve
                    agent.train(
                        total_timesteps=settings.episodes * decisions,
                        ref_point=problem.reference_point,
                        **{"eval_env": played, **options},
                    )
            except _AllPlayed:
                names = [objective.name for objective in problem.objectives]
                return ConditionedPolicy(agent, names) if name in CONDITIONED else None

    return search


def _capql(env: gym.Env, settings: Settings, initial: int, decisions: int) -> tuple[Any, dict]:
    starts = initial * decisions + 1  # it counts from 1
    batch = min(CAPQL_BATCH, starts)  # it cannot start before it has a batch
    agent = CAPQL(
        env, gamma=1.0, learning_starts=starts, batch_size=batch, log=False, seed=settings.seed
    )
    return agent, {}


def _gpi_ls(env: gym.Env, settings: Settings, initial: int, decisions: int) -> tuple[Any, dict]:
    starts = initial * decisions + 1  # it counts from 1
    agent = GPILSContinuousAction(
        env, gamma=1.0, learning_starts=starts, log=False, seed=settings.seed
    )
    return agent, {
        "timesteps_per_iter": _iteration(settings, decisions),
        "num_eval_episodes_for_front": 1,
        "checkpoints": False,
    }


def _morld(env: gym.Env, settings: Settings, initial: int, decisions: int) -> tuple[Any, dict]:
    agent = MORLD(
        env,
        gamma=1.0,
        policy_args={"learning_starts": initial * decisions},
        exchange_every=_iteration(settings, decisions),
        log=False,
        seed=settings.seed,
    )
    return agent, {
        "eval_env": _Untested(env),
        "num_eval_episodes_for_front": 1,
        "checkpoints": False,
    }


def _iteration(settings: Settings, decisions: int) -> int:
    """Return the steps between two turns of an agent."""
    return -(-settings.episodes // ITERATIONS) * decisions


def _pcn(env: gym.Env, settings: Settings, initial: int, decisions: int) -> tuple[Any, dict]:
    # Returns lie in [0, 1] already.
    scaling = np.append(np.ones(len(problem_of(env).objectives)), 1 / decisions).astype(np.float32)
    model = ContinuousActionsDefaultModel
    agent = _PCNWithoutCheckpoints(
        env, scaling, gamma=1.0, log=False, seed=settings.seed, model_class=model
    )
    agent.continuous_action = True  # it does not recognize a subclass of Box
    return agent, {
        "eval_env": _Untested(env),
        "num_er_episodes": max(initial, 2),
        "num_points_pf": 1,
    }


class _PCNWithoutCheckpoints(PCN):
    """PCN writes its weights into the current folder after every round."""

    def save(self, *arguments: Any, **options: Any) -> None:
        """Write nothing."""


ALGORITHMS: dict[str, Callable[[gym.Env, Settings, int, int], tuple[Any, dict]]] = {
    "CAPQL": _capql,
    "GPI-LS": _gpi_ls,
    "MORLD": _morld,
    "PCN": _pcn,
}
CONDITIONED = ("CAPQL", "GPI-LS")


class _AllPlayed(Exception):
    """All episodes of a search are played: the only way out of ``train``."""


class _Played(gym.Wrapper):
    """Ends a search after its episodes, and puts the initial design in place of random actions.

    The algorithms begin with ``env.action_space.sample()``.
    """

    def __init__(self, env: gym.Env, settings: Settings, decisions: int) -> None:
        super().__init__(env)
        self._left = settings.episodes
        self._seed: int | None = settings.seed  # for the first reset
        self.initial = initial_design(settings.episodes, decisions, settings.seed)
        self.action_space = _InitialActions(self, self.initial, settings.seed)

    def reset(self, **options: Any) -> tuple[np.ndarray, dict]:
        if self._seed is not None:
            options["seed"], self._seed = self._seed, None
        return self.env.reset(**options)

    def step(self, action: np.ndarray) -> tuple:
        following = self.env.step(np.asarray(action, dtype=np.float32))
        self._left -= following[2]
        if not self._left:
            raise _AllPlayed
        return following


class _Untested(gym.Wrapper):
    """In place of test episodes that change nothing: they end at once, and nothing is evaluated."""

    def reset(self, **options: Any) -> tuple[np.ndarray, dict]:
        return self._observation, {}

    def step(self, action: np.ndarray) -> tuple:
        reward = np.zeros(len(problem_of(self).objectives))
        return self._observation, reward, True, False, {}

    @property
    def _observation(self) -> np.ndarray:
        assert self.observation_space.shape is not None
        return np.zeros(self.observation_space.shape, np.float32)


class _InitialActions(gym.spaces.Box):
    """The space of actions, whose samples are those of the initial design while it lasts."""

    def __init__(self, env: gym.Env, initial: np.ndarray, seed: int) -> None:
        super().__init__(-1.0, 1.0, (1,), np.float32, seed)
        self._env, self._rows = env, list(initial)[::-1]
        self._row: np.ndarray | None = None

    def sample(self, *options: Any, **more: Any) -> np.ndarray:
        at = self._env.get_wrapper_attr("next_decision")
        if at == 0:
            self._row = self._rows.pop() if self._rows else None
        return super().sample(*options, **more) if self._row is None else self._row[at : at + 1]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators that the algorithms draw from, and restore them afterwards."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
