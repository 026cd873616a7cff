"""The environment: compressing a network, one decision at a time."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from prune_gym.envs.actions import as_number
from prune_gym.envs.arguments import check_types
from prune_gym.envs.episodes import EpisodeBatch
from prune_gym.envs.observation import FEATURES
from prune_gym.envs.source import source_of
from prune_gym.errors import UserError, unknown
from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.objectives.objective import saving
from prune_gym.search_space import Strategy

REWARDS = ("incremental", "terminal")


class CompressionEnv(gym.Env[np.ndarray, Any]):
    """Compress a trained network layer by layer; the reward is a vector of objectives.

    ## Description
    Each step makes one decision, from the network's input to its output: by default how many
    channels one channel group keeps (``decide`` adds or takes other kinds: residual blocks, shares
    of weights, bits). After the last decision the candidate is cut physically, repaired without
    training and scored on the search split. Costs come exactly from the layer table, in
    microseconds.

    ## Action Space
    ``Box(-1, 1, (1,), float32)``: -1 takes the smallest value (the fewest channels, ``min_keep``),
    1 the original's. The value is moved to the nearest option with which every budget can still be
    met. With ``discrete=n``: ``Discrete(n)``, evenly spaced actions from -1 to 1, and
    ``action_masks()`` tells which of them the budgets leave as they are.

    ## Observation Space
    ``Box(0, 1, (50,), float32)``, the same entries at the same scale for every network:
    ``prune_gym.envs.observation.FEATURES`` names them, the table is in docs/environment.md.

    ## Rewards
    ``float32 (reward_dim,)``, higher is better in every entry, by default (accuracy, flops,
    latency, memory). A cost's entry is the share of the original's cost that the step cut, so an
    episode's undiscounted sum is ``1 - cost / cost0``; accuracy, in [0, 1], comes with the last
    step. With ``reward="terminal"`` all of it comes with the last step.

    ## Starting State
    The original network, nothing decided. Nothing is random.

    ## Episode End
    ``terminated`` after the last decision. ``info`` then holds ``accuracy``, ``flops``, ``params``,
    ``latency_ms``, ``memory_bytes``, ``energy_mj``, ``size_bytes`` and ``strategy`` (plain data
    that replays the episode).

    ## Arguments
    ``gym.make(id, ...)`` takes the arguments of `prune_gym.envs.make.compression_env`, which
    makes the problem from plain data.

    ## Version History
    * v0: first release.

    Attributes:
        problem: the compression problem: search space, costs, objectives, budgets, evaluation.
        objectives: the entries of the reward.
        reward_space: the bounds of the reward.
        reward_dim: the number of objectives.
    """

    metadata = {"render_modes": ["human", "ansi", "rgb_array"], "render_fps": 1}

    def __init__(
        self,
        problem: CompressionProblem,
        *,
        reward: str = "incremental",
        discrete: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Make the environment of a problem.

        Args:
            problem: what is decided and how it is judged.
            reward: "incremental" or "terminal".
            discrete: number of discrete actions, instead of the continuous one.
            render_mode: None, "human", "ansi" or "rgb_array".

        Raises:
            UserError: an unknown reward or render mode, or fewer than two discrete actions.
        """
        if reward not in REWARDS:
            raise UserError(unknown("reward", reward, REWARDS))
        check_types(discrete=discrete)
        if discrete is not None and discrete < 2:
            raise UserError(f"discrete: expected at least 2 actions, got {discrete!r}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UserError(unknown("render_mode", render_mode, self.metadata["render_modes"]))
        self.problem, self.render_mode, self.reward = problem, render_mode, reward
        self.objectives = problem.objectives
        self.observation_space = spaces.Box(0.0, 1.0, (len(FEATURES),), np.float32)
        self.action_space = (
            spaces.Box(-1.0, 1.0, (1,), np.float32)
            if discrete is None
            else spaces.Discrete(int(discrete))
        )
        self.reward_dim = len(self.objectives)
        self.reward_space = spaces.Box(-1.0, 1.0, (self.reward_dim,), np.float32)
        self._episode = EpisodeBatch(problem, 1, reward)
        self._started = False
        wanted = {objective.name for objective in self.objectives}
        timed = [cost for cost in problem.costs.values() if not cost.deterministic]
        self._timed = [cost for cost in timed if cost.name in wanted]
        self._timed_original = [cost(problem.original_configuration)[0] for cost in self._timed]

    @property
    def next_decision(self) -> int:
        """Index of the decision that the next step makes; their number at an episode's end."""
        return int(self._episode.index[0])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode with the original network; returns (observation, info).

        Raises:
            UserError: ``options`` holds anything, which none of the wrappers around it took.
        """
        if options:
            known = "'preference' is the only one, and the wrapper PreferenceConditioned takes it"
            raise UserError(f"reset(options=...): unknown option {next(iter(options))!r}; {known}")
        super().reset(seed=seed)
        self._started = True
        return self._episode.restart()[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, np.ndarray, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """Make the next decision; returns (observation, reward vector, terminated, False, info).

        Raises:
            UserError: the action has another shape, is not finite, or is no discrete action
                (numbers beyond [-1, 1] are clipped).
            gymnasium.error.ResetNeeded: before ``reset`` or after the end of an episode.
        """
        if not self._started:
            raise gym.error.ResetNeeded("step() needs an episode in progress: call reset() first")
        if self._episode.ended[0]:
            made = len(self._strategy())
            raise gym.error.ResetNeeded(f"the episode ended after {made} decisions: call reset()")
        number = as_number(action, self.action_space)
        observations, rewards = self._episode.step(np.array([number]))
        terminated = bool(self._episode.ended[0])
        info = self.terminal_info(self._episode.values[0]) if terminated else {}
        if terminated:
            self._add_measured(rewards[0], info)
        if self.render_mode == "human":
            score = [f"accuracy {info['accuracy']:.1%}"] if terminated else []
            print(*self._lines()[-2:], *score, sep="    ")
        return observations[0], rewards[0], terminated, False, info

    def action_masks(self) -> np.ndarray:
        """Return which discrete actions mean a value that the budgets allow, ``bool (n,)``.

        At least one is True: where none means an allowed value exactly, the nearest ones are.
        After the last decision all are: a vector environment ignores the action with which it
        resets, and its agents ask all the same.
        """
        if not isinstance(self.action_space, spaces.Discrete):
            raise UserError("action_masks() needs a discrete environment: make it with discrete=8")
        if not self._started:
            raise gym.error.ResetNeeded("action_masks() needs an episode: call reset() first")
        count, episode = int(self.action_space.n), self._episode
        if episode.ended[0]:
            return np.ones(count, dtype=bool)
        space, index = self.problem.space, episode.index
        actions = np.array([[as_number(a, self.action_space)] for a in range(count)])
        wanted = space.decode_at(index, actions)[:, 0]
        gets = space.decode_at(index, actions, episode.allowed)[:, 0]
        distance = np.abs(wanted - gets)
        return distance == distance.min()

    def render(self) -> Any:
        """Return the decisions so far as text ("ansi") or as a picture ("rgb_array").

        With "human" every step prints its decision and the costs so far.
        """
        if self.render_mode in (None, "human") or not self._started:
            return None
        if self.render_mode == "ansi":
            return "\n".join(self._lines())
        from prune_gym.envs.render import episode_picture  # matplotlib takes a while to import

        title = self.spec.id if self.spec else type(self.problem.evaluator.network).__name__
        return episode_picture(
            self.problem,
            self._episode.values[0],
            self.next_decision,
            self._episode.observed_shares(),
            title,
        )

    def terminal_info(self, values: np.ndarray) -> dict[str, Any]:
        """Return the last info of an episode that decides ``values`` ``(decisions,)``."""
        space, evaluator = self.problem.space, self.problem.evaluator
        configuration = space.configure(values[None])
        metrics = {"accuracy": evaluator.accuracy(configuration)}
        metrics |= self.problem.cost_metrics(configuration)
        decisions = space.to_strategy(values)
        about = (*source_of(self), decisions, dict(metrics), evaluator.checksum)
        return {**metrics, "strategy": Strategy(*about).as_dict()}

    def _lines(self) -> list[str]:
        """Return a line per decision made, and one with the costs so far."""
        made = self._strategy()
        lines = [f"{d['kind']:<16}{d['name']:<24}{d['value']:>5g} of {d['of']:g}" for d in made]
        costs = self._episode.observed_shares()
        return [*lines, "  ".join(f"{name} {share:.1%}" for name, share in costs)]

    def _strategy(self) -> tuple[dict[str, Any], ...]:
        """Return the decisions made so far, as they stand in a strategy."""
        return self.problem.space.to_strategy(self._episode.values[0], self.next_decision)

    def _add_measured(self, reward: np.ndarray, info: dict[str, Any]) -> None:
        """Put what needs the candidate into the reward of the last step."""
        entries = {"accuracy": info["accuracy"]}
        for cost, original in zip(self._timed, self._timed_original, strict=True):
            entries[cost.name] = saving(info[cost.metric], original)
        for column, objective in enumerate(self.objectives):
            reward[column] = entries.get(objective.name, reward[column])
