"""The environment: pruning a network, one decision at a time."""

import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from torch import nn

from envs_registry import GENERIC_ID, env_ids
from prune_gym.costs import COSTS, Cost, build_costs
from prune_gym.costs.latency import load_latency_table
from prune_gym.datasets import Data, DetectionData
from prune_gym.envs.actions import as_number
from prune_gym.envs.observation import FEATURES, Observer, Progress
from prune_gym.envs.render import keep_ratio_bars
from prune_gym.errors import UserError, UserTypeError, unknown
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.evaluation.network_library import with_library
from prune_gym.evaluation.task import find_evaluator
from prune_gym.evaluation.validation import ValidationResult, compare
from prune_gym.graph.configuration import Configuration
from prune_gym.objectives.objective import DEFAULT, make_objectives
from prune_gym.profiling.measured_latency import MeasuredLatency
from prune_gym.search_space import Decision, SpaceOptions, make_decisions
from prune_gym.search_space.budgets import Budgets
from prune_gym.search_space.space import SearchSpace
from prune_gym.search_space.strategy import Strategy, strategy_from_dict

REWARDS = ("incremental", "terminal")
MEASURED = "measured"
OWN = ("network", "data")  # names, or one's own objects
REFERENCE_LATENCY = "reference-cpu"
ALWAYS_OBSERVED = ("flops", "params", "memory", "latency")  # the rest where they are wanted


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
    See :meth:`__init__`.

    ## Version History
    * v0: first release.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 1}

    def __init__(
        self,
        network: str | os.PathLike[str] | nn.Module = "vgg16",
        data: str | Data | DetectionData = "digits",
        *,
        objectives: Sequence[str] | None = None,
        budgets: Mapping[str, float] | None = None,
        latency: str | None = REFERENCE_LATENCY,
        dataflow: str = "X:Y",
        coding: str = "csr",
        repair: str = "least_squares",
        library: str | None = None,
        reward: str = "incremental",
        decide: Sequence[str] = ("channels",),
        min_keep: float = 0.125,
        round_to: int = 8,
        min_density: float = 0.1,
        granularity: int = 4,
        bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8),
        discrete: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Make the environment.

        Args:
            network: a name out of ``prune_gym.models.NETWORKS``, a file that ``prune-gym apply``
                wrote, ``package.module:function``, or your own trained module.
            data: a name that ``prune_gym.datasets.load`` knows, or your own ``Data``; a named
                network needs a named data set, as its weights do.
            objectives: which rewards, in this order; None: accuracy, flops, latency (where there
                is a table) and memory.
            budgets: cost -> largest allowed fraction of the original's; never exceeded.
            latency: latency table, the name of a shipped one or a path; "measured" times every
                finished candidate on this machine; None does without latency.
            dataflow: of the accelerator whose energy is counted: X:Y, FX:FY, X:FX or CI:CO.
            coding: how the weights are stored, for size: dense, coo or csr.
            repair: how candidates are repaired: none, batch_norm, merge, merge+batch_norm or
                least_squares.
            library: folder that ``prune-gym library`` made: candidates start from its networks,
                pruned and retrained beforehand, and are not repaired; for one density of all
                layers, and bits.
            reward: "incremental" or "terminal".
            decide: the kinds of decisions: channels, block, density, global_density, variational,
                weight_bits, activation_bits.
            min_keep: least share of a group's channels to keep, in (0, 1].
            round_to: widths are multiples of this many channels.
            min_density: least share of a layer's weights to keep, in (0, 1].
            granularity: consecutive output channels whose weights are kept or pruned together
                (density); 1 prunes element-wise, and is taken for a network whose own zeros do not
                fill whole masks.
            bits: the bits to choose from, 1 to 8, or 32 for float.
            discrete: number of discrete actions, instead of the continuous one.
            render_mode: None, "ansi" or "rgb_array".

        Raises:
            UserError: an unknown name, or a value out of range; budgets that cannot be met.
            MissingFileError: data that are neither on disk nor to be downloaded.
        """
        _check_arguments(reward, discrete, render_mode)
        self.render_mode = render_mode
        self._evaluator = find_evaluator(
            network, data, repair, granularity, by_information="variational" in decide
        )
        if library is not None:
            self._evaluator = with_library(self._evaluator, library, decide)
        table = self._evaluator.table
        given = tuple(bits) if isinstance(bits, Iterable) else ()
        rules = SpaceOptions(min_keep, round_to, min_density, given)
        decisions = make_decisions(decide, self._evaluator, rules)
        self._plan = SearchSpace(table, decisions, self._evaluator.density)
        by_table = load_latency_table(latency) if latency not in (None, MEASURED) else None
        self._costs = build_costs(table, by_table, dataflow=dataflow, coding=coding)
        if latency == MEASURED:
            shape = self._evaluator.data.search.images.shape[1:]
            measured = MeasuredLatency(self._evaluator.network, table, shape)
            self._costs[measured.name] = measured
        if objectives is None:
            objectives = [name for name in DEFAULT if name == "accuracy" or name in self._costs]
        self.objectives = make_objectives(objectives, self._costs, self._evaluator.data.metric_name)
        limits = dict(budgets or {})
        self._budgets = Budgets(limits, self._costs, self._plan)
        self._limit_row = np.array([limits.get(name, 1.0) for name in COSTS])
        wanted = {*ALWAYS_OBSERVED, *objectives, *limits}
        known = [cost for name, cost in self._costs.items() if name in wanted]
        self._observed = [cost for cost in known if cost.deterministic]
        timed = [cost for cost in known if not cost.deterministic]
        self._at_the_end = [cost for cost in timed if cost.name in objectives]
        self._columns = [COSTS.index(cost.name) for cost in self._observed]
        self._observe = Observer(table, self.decisions)
        self._terminal_only = reward == "terminal"
        full = self._plan.configure(self._plan.full[None])
        self._original = np.array([cost(full)[0] for cost in self._observed])
        self._original_at_the_end = np.array([cost(full)[0] for cost in self._at_the_end])
        self.observation_space = spaces.Box(0.0, 1.0, (len(FEATURES),), np.float32)
        self.action_space = (
            spaces.Box(-1.0, 1.0, (1,), np.float32)
            if discrete is None
            else spaces.Discrete(discrete)
        )
        self.reward_space = spaces.Box(-1.0, 1.0, (len(self.objectives),), np.float32)
        self.reward_dim = len(self.objectives)
        self._values: np.ndarray | None = None
        self._index = 0
        self._made: tuple[int, ...] = ()
        self._lost: tuple[float, ...] = ()

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """All decisions in the order of the episode; those in a skipped block are not made."""
        return self._plan.decisions

    @property
    def plan(self) -> SearchSpace:
        """How the decisions' values come to a candidate."""
        return self._plan

    @property
    def budgets(self) -> dict[str, float]:
        """The budgets it was made with: cost -> largest allowed share of the original's."""
        return {
            name: float(limit)
            for name, limit in zip(COSTS, self._limit_row, strict=True)
            if limit < 1
        }

    @property
    def next_decision(self) -> int:
        """Index of the decision that the next step makes; their number at an episode's end."""
        return self._index

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
        full = self._plan.configure(self._plan.full[None])
        return self._metrics(full) | {"accuracy": self._evaluator.accuracy(full)}

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
        self._values = self._plan.full.copy()
        self._index, self._made, self._lost = 0, (), ()
        self._survey()
        return self._observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, np.ndarray, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """Decide the next group; returns (observation, reward vector, terminated, False, info).

        Raises:
            UserError: the action has another shape, is not finite, or is no discrete action
                (numbers beyond [-1, 1] are clipped).
            gymnasium.error.ResetNeeded: before ``reset`` or after the end of an episode.
        """
        if self._values is None or self._index == len(self.decisions):
            raise gym.error.ResetNeeded(
                "step() needs an episode in progress: call reset() first"
                if self._values is None
                else f"the episode ended after {len(self._made)} decisions: call reset()"
            )
        index, before = self._index, self._shares[0]
        decision = self.decisions[index]
        self._values[index] = value = decision.nearest(
            as_number(action, self.action_space), self._allowed
        )
        self._made += (index,)
        self._lost += (decision.sensitivity_at(value),)
        self._index = self._plan.following(index, self._values)
        # What is not decided because its block is skipped counts as the least of its kind.
        self._values[index + 1 : self._index] = self._plan.least[index + 1 : self._index]
        self._survey()
        terminated = self._index == len(self.decisions)
        info = self._terminal_info() if terminated else {}
        return self._observation(), self._reward(before, info), terminated, False, info

    def action_masks(self) -> np.ndarray:
        """Return which discrete actions ask for a width that the budgets allow, ``bool (n,)``.

        At least one is True: where none asks for an allowed width exactly, the nearest ones are.
        After the last decision all are: a vector environment ignores the action with which it
        resets, and its agents ask all the same.
        """
        if not isinstance(self.action_space, spaces.Discrete):
            raise UserError("action_masks() needs a discrete environment: make it with discrete=8")
        if self._values is None:
            raise gym.error.ResetNeeded("action_masks() needs an episode: call reset() first")
        if self._index == len(self.decisions):
            return np.ones(int(self.action_space.n), dtype=bool)
        decision = self.decisions[self._index]
        everything = np.ones_like(self._allowed)
        actions = [as_number(a, self.action_space) for a in range(int(self.action_space.n))]
        wanted = np.array([decision.nearest(a, everything) for a in actions])
        gets = np.array([decision.nearest(a, self._allowed) for a in actions])
        distance = np.abs(wanted - gets)
        return distance == distance.min()

    def apply(self, strategy: Strategy | Mapping[str, Any]) -> nn.Module:
        """Return the smaller, repaired network of a strategy (float32, eval mode, trainable).

        Raises:
            UserError: the strategy is of another network or breaks its rules.
        """
        return self._evaluator.candidate(self.configure(strategy)).requires_grad_(True)

    def validate(self, strategy: Strategy | Mapping[str, Any]) -> ValidationResult:
        """Replay a strategy and compare every number it claims with what is found here.

        A latency that was measured by the clock is no such number and is left out.

        Raises:
            UserError: the strategy is of another network or breaks its rules.
        """
        strategy = _as_strategy(strategy)
        configuration = self.configure(strategy)
        # Scored anew: the memo may hold the very number that is to be checked.
        candidate, search = self._evaluator.candidate(configuration), self._evaluator.data.search
        exact = [cost for cost in self._costs.values() if cost.deterministic]
        timed = {cost.metric for cost in self._costs.values()} - {cost.metric for cost in exact}
        found = {cost.metric: float(cost(configuration)[0]) for cost in exact}
        found["accuracy"] = self._evaluator.score(candidate, search)
        claimed = {name: value for name, value in strategy.metrics.items() if name not in timed}
        same_weights = strategy.is_of(self._evaluator.checksum)
        return compare(claimed, found, len(search), same_weights)

    def configure(self, strategy: Strategy | Mapping[str, Any]) -> Configuration:
        """Return what a strategy comes to: what every cost and the evaluator take.

        Raises:
            UserError: the strategy's decisions or values are not this environment's.
        """
        values = self.values_of(strategy)
        if exceeded := self._budgets.exceeded(values):
            raise UserError(f"the strategy exceeds the budgets {exceeded}")
        return self._plan.configure(values[None])

    def values_of(self, strategy: Strategy | Mapping[str, Any]) -> np.ndarray:
        """Return the values of a strategy's decisions, ``(decisions,)``.

        Raises:
            UserError: the strategy's decisions or values are not this environment's.
        """
        return self._plan.values_of(_as_strategy(strategy).decisions)

    def within_budgets(self, values: np.ndarray) -> np.ndarray:
        """Return which strategies exceed no budget: values (n, decisions) -> ``bool (n,)``."""
        return self._budgets.met(values)

    def savings(self, values: np.ndarray) -> np.ndarray:
        """Return what strategies save: the returns of their episodes, but for accuracy.

        Args:
            values: of the decisions, ``(n, decisions)``.

        Returns:
            ``1 - cost / cost0`` of every objective, ``(n, reward_dim)``; 0 for accuracy.
        """
        configuration, full = (
            self._plan.configure(values),
            self._plan.configure(self._plan.full[None]),
        )
        saved = np.zeros((len(values), self.reward_dim))
        for column, objective in enumerate(self.objectives):
            if objective.name != "accuracy":
                cost = self._costs[objective.name]
                saved[:, column] = 1 - cost(configuration) / cost(full)
        return saved

    @property
    def costs(self) -> dict[str, Cost]:
        """The costs by name; each maps what n strategies come to (``Configuration``) to (n,)."""
        return dict(self._costs)

    def render(self) -> str | np.ndarray | None:  # type: ignore[override]
        """Return the decisions so far as text ("ansi") or as a picture ("rgb_array")."""
        if self.render_mode is None or self._values is None:
            return None
        if self.render_mode == "ansi":
            return self._text()
        return keep_ratio_bars(self._values / self._plan.full, self._index)

    def _text(self) -> str:
        assert self._values is not None
        lines = [
            f"{d.kind:<16}{d.name:<24}{self._values[index]:>5g} of {d.of:g}"
            for index in self._made
            for d in [self.decisions[index]]
        ]
        names = [cost.name for cost in self._observed]
        shares = zip(names, self._shares[0, self._columns], strict=True)
        return "\n".join([*lines, "  ".join(f"{name} {share:.1%}" for name, share in shares)])

    def _survey(self) -> None:
        """Compute the costs that the reward and the observation need, and what is allowed next."""
        assert self._values is not None
        index, rows = self._index, np.repeat(self._values[None], 3, axis=0)
        rows[1, index : index + 1] = self._plan.least[index : index + 1]
        rows[2, index:] = self._plan.least[index:]
        configuration = self._plan.configure(rows)
        self._configuration = configuration[0]
        values = np.stack([cost(configuration) for cost in self._observed], axis=1)
        self._shares = np.ones((3, len(COSTS)))  # an unknown cost cannot be cut
        self._shares[:, self._columns] = values / self._original
        if index < len(self.decisions):
            self._allowed = self._budgets.allowed(self._values, index)

    def _observation(self) -> np.ndarray:
        assert self._values is not None
        last = self._made[-1] if self._made else None
        before = 1.0 if last is None else float(self._values[last] / self.decisions[last].of)
        place = (self._configuration, before, self._lost, self._index)
        return self._observe(Progress(*place, self._shares, self._limit_row, self._allowed))

    def _reward(self, before: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        terminated = "accuracy" in info
        if self._terminal_only:
            saved = (1.0 - self._shares[0]) * terminated
        else:
            saved = before - self._shares[0]
        entries = dict(zip(COSTS, saved, strict=True))
        entries["accuracy"] = info.get("accuracy", 0.0)
        for cost, original in zip(self._at_the_end, self._original_at_the_end, strict=True):
            entries[cost.name] = 1.0 - info[cost.metric] / original if terminated else 0.0
        return np.array([entries[o.name] for o in self.objectives], dtype=np.float32)

    def _metrics(self, configuration: Configuration) -> dict[str, float]:
        return {cost.metric: float(cost(configuration)[0]) for cost in self._costs.values()}

    def _terminal_info(self) -> dict[str, Any]:
        assert self._values is not None
        metrics = {"accuracy": self._evaluator.accuracy(self._configuration)}
        metrics |= self._metrics(self._configuration)
        decisions = tuple(
            self.decisions[index].as_plain_data(float(self._values[index])) for index in self._made
        )
        strategy = Strategy(*self._made_by(), decisions, dict(metrics), self._evaluator.checksum)
        return {**metrics, "strategy": strategy.as_dict()}

    def _made_by(self) -> tuple[str, dict[str, Any]]:
        """Return the id and the arguments with which ``gym.make`` makes this environment again."""
        if self.spec is None:
            return "", {}
        # One's own module or data are no plain data; who replays the strategy gives them again.
        kwargs = {
            name: value
            for name, value in self.spec.kwargs.items()
            if name not in OWN or isinstance(value, str | os.PathLike)
        }
        if type(self) is not CompressionEnv or self.spec.id in env_ids():
            return self.spec.id, kwargs
        # An id of one's own: who applies its strategies need not have imported what registers it.
        return GENERIC_ID, {"latency": REFERENCE_LATENCY, **kwargs}


def _as_strategy(strategy: Strategy | Mapping[str, Any]) -> Strategy:
    if isinstance(strategy, Strategy):
        return strategy
    if isinstance(strategy, Mapping):
        return strategy_from_dict(dict(strategy))
    raise UserTypeError(
        "expected a strategy, as load_strategy(path) or info['strategy'] gives it, got "
        f"{strategy!r}"
    )


def _check_arguments(reward: str, discrete: int | None, render_mode: str | None) -> None:
    if reward not in REWARDS:
        raise UserError(unknown("reward", reward, REWARDS))
    if discrete is not None and (not isinstance(discrete, Integral) or discrete < 2):
        raise UserError(f"discrete: expected at least 2 actions, got {discrete!r}")
    if render_mode not in (None, *CompressionEnv.metadata["render_modes"]):
        raise UserError(
            unknown("render_mode", render_mode, CompressionEnv.metadata["render_modes"])
        )
