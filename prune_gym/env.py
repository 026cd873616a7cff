"""The environment: pruning a network, one decision at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from torch import nn

from prune_gym.budgets import Budgets
from prune_gym.costs import COSTS, Cost, build_costs
from prune_gym.costs.latency import load_latency_table
from prune_gym.datasets import Data
from prune_gym.decisions import channel_decision
from prune_gym.errors import unknown
from prune_gym.evaluate import Evaluator
from prune_gym.objectives import DEFAULT, make_objectives
from prune_gym.observation import FEATURES, Observer, Progress
from prune_gym.render import keep_ratio_bars
from prune_gym.strategy import Strategy, strategy_from_dict
from prune_gym.task import find_evaluator
from prune_gym.validation import ValidationResult, compare

REWARDS = ("incremental", "terminal")


class CompressionEnv(gym.Env[np.ndarray, Any]):
    """Prune a trained network layer by layer; the reward is a vector of objectives.

    ## Description
    Each step decides how many channels one channel group keeps, from the network's input to its
    output. After the last decision the candidate is cut physically, repaired without training and
    scored on the search split. Costs come exactly from the layer table, in microseconds.

    ## Action Space
    ``Box(-1, 1, (1,), float32)``: -1 keeps the fewest channels (``min_keep``), 1 keeps all. The
    width is rounded to ``round_to`` channels and moved to the nearest one with which every budget
    can still be met. With ``discrete=n``: ``Discrete(n)``, evenly spaced actions from -1 to 1, and
    ``action_masks()`` tells which of them the budgets leave as they are.

    ## Observation Space
    ``Box(0, 1, (33,), float32)``, the same entries at the same scale for every network:
    ``prune_gym.observation.FEATURES`` names them, the table is in docs/environment.md.

    ## Rewards
    ``float32 (reward_dim,)``, higher is better in every entry, by default (accuracy, flops,
    latency, memory). A cost's entry is the share of the original's cost that the step cut, so an
    episode's undiscounted sum is ``1 - cost / cost0``; accuracy, in [0, 1], comes with the last
    step. With ``reward="terminal"`` all of it comes with the last step.

    ## Starting State
    The original network, nothing decided. Nothing is random.

    ## Episode End
    ``terminated`` after the last group. ``info`` then holds ``accuracy``, ``flops``, ``params``,
    ``latency_ms``, ``memory_bytes`` and ``strategy`` (plain data that replays the episode).

    ## Arguments
    See :meth:`__init__`.

    ## Version History
    * v0: first release.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 1}

    def __init__(
        self,
        network: str | nn.Module = "vgg16",
        data: str | Data = "digits",
        *,
        objectives: Sequence[str] | None = None,
        budgets: Mapping[str, float] | None = None,
        latency: str | None = "reference-cpu",
        repair: str = "merge+batch_norm",
        reward: str = "incremental",
        min_keep: float = 0.125,
        round_to: int = 8,
        discrete: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Make the environment.

        Args:
            network: a name out of ``prune_gym.models.NETWORKS``, or your own trained module.
            data: a name that ``prune_gym.datasets.load`` knows, or your own ``Data``; a named
                network needs a named data set, as its weights do.
            objectives: which rewards, in this order; None: accuracy, flops, latency (where there
                is a table) and memory.
            budgets: cost -> largest allowed fraction of the original's; never exceeded.
            latency: latency table, the name of a shipped one or a path; None does without latency.
            repair: how candidates are repaired: none, batch_norm, merge, merge+batch_norm.
            reward: "incremental" or "terminal".
            min_keep: least share of a group's channels to keep, in (0, 1].
            round_to: widths are multiples of this many channels.
            discrete: number of discrete actions, instead of the continuous one.
            render_mode: None, "ansi" or "rgb_array".

        Raises:
            ValueError: an unknown name, or a value out of range; budgets that cannot be met.
            FileNotFoundError: data that are neither on disk nor to be downloaded.
        """
        _check_arguments(reward, min_keep, round_to, discrete, render_mode)
        self.render_mode = render_mode
        self._evaluator = find_evaluator(network, data, repair)
        table, calibration = self._evaluator.table, self._evaluator.calibration
        self._costs = build_costs(table, load_latency_table(latency) if latency else None)
        self.decisions = tuple(
            channel_decision(group.name, group.size, min_keep, round_to) for group in table.groups
        )
        if objectives is None:
            objectives = [name for name in DEFAULT if name == "accuracy" or name in self._costs]
        self.objectives = make_objectives(objectives, self._costs)
        limits = dict(budgets or {})
        self._budgets = Budgets(limits, self._costs, self.decisions)
        self._limit_row = np.array([limits.get(name, 1.0) for name in COSTS])
        self._columns = [COSTS.index(name) for name in self._costs]
        self._observe = Observer(table, self.decisions, calibration.errors)
        self._terminal_only = reward == "terminal"
        self._full = table.full
        self._least = np.array([decision.options[0] for decision in self.decisions])
        self._original = np.array([cost(self._full[None])[0] for cost in self._costs.values()])
        self.observation_space = spaces.Box(0.0, 1.0, (len(FEATURES),), np.float32)
        self.action_space = (
            spaces.Box(-1.0, 1.0, (1,), np.float32)
            if discrete is None
            else spaces.Discrete(discrete)
        )
        self.reward_space = spaces.Box(-1.0, 1.0, (len(self.objectives),), np.float32)
        self.reward_dim = len(self.objectives)
        self._widths: np.ndarray | None = None
        self._index = 0

    @property
    def evaluator(self) -> Evaluator:
        """What scores the candidates; shared by all environments of the same task."""
        return self._evaluator

    @property
    def reference_point(self) -> np.ndarray:
        """Episode return that every useful strategy dominates: chance accuracy, nothing saved."""
        chance = self._evaluator.data.chance
        return np.array([chance if o.name == "accuracy" else 0.0 for o in self.objectives])

    @property
    def original_metrics(self) -> dict[str, float]:
        """Natural values of the network before any pruning; its accuracy is measured once."""
        return self._metrics(self._full) | {"accuracy": self._evaluator.accuracy(self._full)}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode with the original network; returns (observation, info)."""
        super().reset(seed=seed)
        self._widths = self._full.copy()
        self._index = 0
        self._survey()
        return self._observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, np.ndarray, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """Decide the next group; returns (observation, reward vector, terminated, False, info).

        Raises:
            ValueError: the action has another shape, is not finite, or is no discrete action
                (numbers beyond [-1, 1] are clipped).
            gymnasium.error.ResetNeeded: before ``reset`` or after the end of an episode.
        """
        if self._widths is None or self._index == len(self.decisions):
            raise gym.error.ResetNeeded(
                "step() needs an episode in progress: call reset() first"
                if self._widths is None
                else f"the episode ended after {len(self.decisions)} decisions: call reset()"
            )
        width = self.decisions[self._index].nearest(self._scalar(action), self._allowed)
        before = self._shares[0]
        self._widths[self._index] = width
        self._index += 1
        self._survey()
        terminated = self._index == len(self.decisions)
        info = self._terminal_info() if terminated else {}
        return self._observation(), self._reward(before, info), terminated, False, info

    def action_masks(self) -> np.ndarray:
        """Return which discrete actions ask for a width that the budgets allow, ``bool (n,)``.

        At least one is True: where none asks for an allowed width exactly, the nearest ones are.
        """
        if not isinstance(self.action_space, spaces.Discrete):
            raise ValueError("action_masks() needs a discrete environment: make it with discrete=8")
        if self._widths is None or self._index == len(self.decisions):
            raise gym.error.ResetNeeded("action_masks() needs an episode in progress: call reset()")
        decision = self.decisions[self._index]
        everything = np.ones_like(self._allowed)
        actions = [self._scalar(a) for a in range(int(self.action_space.n))]
        wanted = np.array([decision.nearest(a, everything) for a in actions])
        gets = np.array([decision.nearest(a, self._allowed) for a in actions])
        distance = np.abs(wanted - gets)
        return distance == distance.min()

    def apply(self, strategy: Strategy | Mapping[str, Any]) -> nn.Module:
        """Return the smaller, repaired network of a strategy (float32, eval mode, trainable).

        Raises:
            ValueError: the strategy is of another network or breaks its rules.
        """
        return self._evaluator.candidate(self.widths_of(strategy)).requires_grad_(True)

    def validate(self, strategy: Strategy | Mapping[str, Any]) -> ValidationResult:
        """Replay a strategy and compare every number it claims with what is found here.

        Raises:
            ValueError: the strategy is of another network or breaks its rules.
        """
        strategy = _as_strategy(strategy)
        widths = self.widths_of(strategy)
        # Scored anew: the memo may hold the very number that is to be checked.
        candidate, search = self._evaluator.candidate(widths), self._evaluator.data.search
        found = self._metrics(widths) | {"accuracy": self._evaluator.score(candidate, search)}
        return compare(strategy.metrics, found, len(search))

    def widths_of(self, strategy: Strategy | Mapping[str, Any]) -> np.ndarray:
        """Return a strategy's widths in this network's order, ``int64 (groups,)``.

        Raises:
            ValueError: the strategy's groups or widths are not this network's.
        """
        widths = _as_strategy(strategy).widths
        names = [decision.name for decision in self.decisions]
        if set(widths) != set(names):
            odd = sorted(set(widths) ^ set(names))
            raise ValueError(
                f"the strategy is of another network: expected groups {names}, differs in {odd}"
            )
        for decision in self.decisions:
            if widths[decision.name] not in decision.options:
                raise ValueError(
                    f"group {decision.name!r}: expected one of {decision.options.tolist()} "
                    f"channels, the strategy keeps {widths[decision.name]}"
                )
        array = np.array([widths[name] for name in names], dtype=np.int64)
        if exceeded := self._budgets.exceeded(array):
            raise ValueError(f"the strategy exceeds the budgets {exceeded}")
        return array

    @property
    def costs(self) -> dict[str, Cost]:
        """The costs by name; each maps widths (n, groups) of many strategies to (n,)."""
        return dict(self._costs)

    def render(self) -> str | np.ndarray | None:  # type: ignore[override]
        """Return the decisions so far as text ("ansi") or as a picture ("rgb_array")."""
        if self.render_mode is None or self._widths is None:
            return None
        if self.render_mode == "ansi":
            return self._text()
        return keep_ratio_bars(self._widths / self._full, self._index)

    def _text(self) -> str:
        assert self._widths is not None
        lines = [
            f"{decision.name:<24}{width:>5} of {decision.size}"
            for decision, width in zip(self.decisions, self._widths[: self._index], strict=False)
        ]
        shares = zip(COSTS, self._shares[0], strict=True)
        return "\n".join([*lines, "  ".join(f"{name} {share:.1%}" for name, share in shares)])

    def _scalar(self, action: Any) -> float:
        """Check an action and return it as a number in [-1, 1]."""
        if isinstance(self.action_space, spaces.Discrete):
            if not self.action_space.contains(action):
                raise ValueError(
                    f"expected an action in 0..{self.action_space.n - 1}, got {action!r}"
                )
            return 2 * int(action) / max(int(self.action_space.n) - 1, 1) - 1
        array = np.asarray(action, dtype=np.float64)
        if array.shape != (1,) or not np.isfinite(array).all():
            raise ValueError(
                f"expected an action of shape (1,) with a finite number in [-1, 1], got {action!r}"
            )
        return float(np.clip(array[0], -1.0, 1.0))

    def _survey(self) -> None:
        """Compute the costs that the reward and the observation need, and what is allowed next."""
        assert self._widths is not None
        index, rows = self._index, np.repeat(self._widths[None], 3, axis=0)
        rows[1, index : index + 1] = self._least[index : index + 1]
        rows[2, index:] = self._least[index:]
        values = np.stack([cost(rows) for cost in self._costs.values()], axis=1)
        self._shares = np.ones((3, len(COSTS)))  # an unknown cost cannot be cut
        self._shares[:, self._columns] = values / self._original
        if index < len(self.decisions):
            self._allowed = self._budgets.allowed(self._widths, index)

    def _observation(self) -> np.ndarray:
        assert self._widths is not None
        return self._observe(
            Progress(self._widths, self._index, self._shares, self._limit_row, self._allowed)
        )

    def _reward(self, before: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        terminated = "accuracy" in info
        if self._terminal_only:
            saved = (1.0 - self._shares[0]) * terminated
        else:
            saved = before - self._shares[0]
        entries = dict(zip(COSTS, saved, strict=True))
        entries["accuracy"] = info.get("accuracy", 0.0)
        return np.array([entries[o.name] for o in self.objectives], dtype=np.float32)

    def _metrics(self, widths: np.ndarray) -> dict[str, float]:
        return {cost.metric: float(cost(widths[None])[0]) for cost in self._costs.values()}

    def _terminal_info(self) -> dict[str, Any]:
        assert self._widths is not None
        metrics = {"accuracy": self._evaluator.accuracy(self._widths)}
        metrics |= self._metrics(self._widths)
        decisions = tuple(
            {"group": d.name, "kind": d.kind, "kept": int(width), "of": d.size}
            for d, width in zip(self.decisions, self._widths, strict=True)
        )
        spec = self.spec
        kwargs = dict(spec.kwargs) if spec else {}
        strategy = Strategy(spec.id if spec else "", kwargs, decisions, dict(metrics))
        return {**metrics, "strategy": strategy.as_dict()}


def _as_strategy(strategy: Strategy | Mapping[str, Any]) -> Strategy:
    return strategy if isinstance(strategy, Strategy) else strategy_from_dict(dict(strategy))


def _check_arguments(
    reward: str, min_keep: float, round_to: int, discrete: int | None, render_mode: str | None
) -> None:
    if reward not in REWARDS:
        raise ValueError(unknown("reward", reward, REWARDS))
    if not 0 < min_keep <= 1:
        raise ValueError(f"min_keep: expected a share in (0, 1], got {min_keep!r}")
    if round_to < 1:
        raise ValueError(f"round_to: expected a number of channels >= 1, got {round_to!r}")
    if discrete is not None and discrete < 2:
        raise ValueError(f"discrete: expected at least 2 actions, got {discrete!r}")
    if render_mode not in (None, *CompressionEnv.metadata["render_modes"]):
        raise ValueError(
            unknown("render_mode", render_mode, CompressionEnv.metadata["render_modes"])
        )
