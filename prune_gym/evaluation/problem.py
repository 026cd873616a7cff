"""The compression problem: what a strategy is worth, without any episode.

It is to agents that plan whole strategies what a problem is to pymoo. Strategies are given as the
values of their decisions, ``float64 (n, decisions)``.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed, effective_n_jobs
from torch import nn

from prune_gym._utils.parallel import limit_threads
from prune_gym.costs import Cost
from prune_gym.errors import UserError, UserTypeError
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.evaluation.validation import ValidationResult, compare
from prune_gym.graph.configuration import Configuration
from prune_gym.objectives.objective import DEFAULT, make_objectives, saving
from prune_gym.search_space import KINDS, Decision, DecisionKind, SearchSpace, Strategy
from prune_gym.search_space.budgets import Budgets
from prune_gym.search_space.strategy import strategy_from_dict


class CompressionProblem:
    """Objectives and constraints of compressing one network.

    Attributes:
        evaluator: measures the accuracy of configurations.
        space: the search space.
        costs: the costs by name.
        objectives: what is optimized, in the order of the reward.
        budgets: the caps on costs.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        space: SearchSpace,
        costs: Mapping[str, Cost],
        objectives: Sequence[str] | None = None,
        budgets: Mapping[str, float] | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            evaluator: measures the accuracy of configurations.
            space: the search space over the evaluator's network.
            costs: the costs by name.
            objectives: names of objectives; None: accuracy, flops, latency and memory, as far as
                there are costs for them.
            budgets: cost -> largest allowed fraction of the original's; never exceeded.

        Raises:
            UserError: an unknown objective or cost, or budgets that no strategy meets.
        """
        self.evaluator, self.space, self.costs = evaluator, space, dict(costs)
        if objectives is None:
            objectives = [name for name in DEFAULT if name == "accuracy" or name in costs]
        self.objectives = make_objectives(objectives, self.costs, evaluator.data.metric_name)
        self.budgets = Budgets(budgets or {}, self.costs, space)

    def __repr__(self) -> str:
        """Return one line: how many decisions, the objectives and the budgets."""
        names = ", ".join(objective.name for objective in self.objectives)
        limits = ", ".join(f"{name} <= {share:g}" for name, share in self.budgets.limits.items())
        return (
            f"<CompressionProblem: {len(self.decisions)} decisions; objectives {names}; "
            f"budgets {limits or 'none'}>"
        )

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions of a strategy, in the order of an episode."""
        return self.space.decisions

    @property
    def reference_point(self) -> np.ndarray:
        """Return that every useful strategy dominates: chance accuracy and nothing saved, (k,)."""
        chance = self.evaluator.data.chance
        return np.array([chance if o.name == "accuracy" else 0.0 for o in self.objectives])

    @cached_property
    def original_configuration(self) -> Configuration:
        """The configuration that leaves the network as it is."""
        return self.space.configure(self.space.upper[None])

    @property
    def original(self) -> dict[str, float]:
        """Metrics of the network before any compression; its accuracy is measured once."""
        accuracy = self.evaluator.accuracy(self.original_configuration)
        return self.cost_metrics(self.original_configuration) | {"accuracy": accuracy}

    def with_budgets(
        self, budgets: Mapping[str, float], meets: np.ndarray | None = None
    ) -> "CompressionProblem":
        """Return this problem under other budgets; everything else is shared.

        Args:
            budgets: cost -> largest allowed fraction of the original's; never exceeded.
            meets: values of a strategy that is known to meet them, ``(decisions,)``; None: one is
                searched.

        Raises:
            UserError: an unknown cost, or budgets that no strategy meets.
        """
        other = copy.copy(self)
        other.budgets = Budgets(budgets, self.costs, self.space, meets)
        return other

    def cost_metrics(self, configuration: Configuration) -> dict[str, float]:
        """Return the costs of one configuration by metric, each in its unit."""
        return {cost.metric: float(cost(configuration)[0]) for cost in self.costs.values()}

    def savings(self, values: np.ndarray) -> np.ndarray:
        """Return what strategies save: the returns of their episodes, but for accuracy.

        Args:
            values: of the decisions, ``(n, decisions)``.

        Returns:
            ``1 - cost / original cost`` of every objective, ``(n, k)``; 0 for accuracy.
        """
        configuration = self.space.configure(values)
        saved = np.zeros((len(values), len(self.objectives)))
        for column, objective in enumerate(self.objectives):
            if objective.name != "accuracy":
                cost = self.costs[objective.name]
                saved[:, column] = saving(cost(configuration), cost(self.original_configuration))
        return saved

    def evaluate(self, values: np.ndarray, jobs: int | None = None) -> np.ndarray:
        """Return the objectives of strategies, as the returns of their episodes.

        An accuracy that is known already is not measured again.

        Args:
            values: of the decisions, ``(n, decisions)``.
            jobs: processes that measure side by side; None: as many as joblib's context says.

        Returns:
            ``float64 (n, k)``, higher is better.
        """
        values = self.space.canonicalise(np.asarray(values, dtype=np.float64))
        returns = self.savings(values)
        names = [objective.name for objective in self.objectives]
        if "accuracy" in names:
            returns[:, names.index("accuracy")] = self.accuracies(values, jobs)
        return returns

    def accuracies(self, values: np.ndarray, jobs: int | None = None) -> np.ndarray:
        """Return the accuracies of strategies, ``(n,)``, measured by ``jobs`` processes."""
        configuration, cache = self.space.configure(values), self.evaluator.cache
        jobs, given = effective_n_jobs(jobs), jobs
        each = {one.key(): one for one in (configuration[row] for row in range(len(values)))}
        unknown = [key for key in each if cache.get(key) is None] if jobs > 1 else []
        # A worker is sent the evaluator (its name, or the user's own network and data) once.
        shares = [share for worker in range(jobs) if (share := unknown[worker::jobs])]
        measured = Parallel(n_jobs=given, batch_size=1)(
            delayed(_measure)(
                self.evaluator,
                [each[key] for key in share],
                torch.get_num_threads(),
                self.space.kinds,
            )
            for share in shares
        )
        for share, accuracies in zip(shares, measured, strict=True):
            for key, accuracy in zip(share, accuracies, strict=True):
                cache.put(key, accuracy)
        rows = (configuration[row] for row in range(len(values)))
        return np.array([self.evaluator.accuracy(one) for one in rows])

    def feasible(self, values: np.ndarray) -> np.ndarray:
        """Return which strategies exceed no budget: values (n, decisions) -> ``bool (n,)``."""
        return self.budgets.met(values)

    def values_of(self, strategy: Strategy | Mapping[str, Any]) -> np.ndarray:
        """Return the values of a strategy's decisions, ``(decisions,)``.

        Raises:
            UserError: the strategy's decisions or values are not this problem's.
        """
        return self.space.from_strategy(_as_strategy(strategy).decisions)

    def configure(self, strategy: Strategy | Mapping[str, Any]) -> Configuration:
        """Return the configuration of a strategy: what every cost and the evaluator take.

        Raises:
            UserError: the strategy's decisions or values are not this problem's, or it exceeds a
                budget.
        """
        values = self.values_of(strategy)
        if exceeded := self.budgets.exceeded(values):
            raise UserError(f"the strategy exceeds the budgets {exceeded}")
        return self.space.configure(values[None])

    def apply(self, strategy: Strategy | Mapping[str, Any]) -> nn.Module:
        """Return the smaller, repaired network of a strategy.

        It is on the processor, in float32 and eval mode, and trainable.

        Raises:
            UserError: the strategy is of another network or breaks the search space's limits.
        """
        return self.evaluator.candidate(self.configure(strategy)).cpu().requires_grad_(True)

    def validate(self, strategy: Strategy | Mapping[str, Any]) -> ValidationResult:
        """Replay a strategy and compare every number it claims with what is found here.

        A latency that was measured by the clock cannot be reproduced exactly and is left out.

        Raises:
            UserError: the strategy is of another network or breaks the search space's limits.
        """
        strategy = _as_strategy(strategy)
        configuration = self.configure(strategy)
        # Measured again: the cache may hold the very number that is to be checked.
        candidate, search = self.evaluator.candidate(configuration), self.evaluator.data.search
        timed = {cost.metric for cost in self.costs.values() if not cost.deterministic}
        exact = [cost for cost in self.costs.values() if cost.deterministic]
        found = {cost.metric: float(cost(configuration)[0]) for cost in exact}
        found["accuracy"] = self.evaluator.score(candidate, search)
        claimed = {name: value for name, value in strategy.metrics.items() if name not in timed}
        same_weights = strategy.is_of(self.evaluator.checksum)
        return compare(claimed, found, len(search), same_weights)


def _measure(
    evaluator: Evaluator,
    configurations: Sequence[Configuration],
    threads: int,
    kinds: Mapping[str, DecisionKind],
) -> list[float]:
    """Measure in a worker, with the threads of the process that asks: the numbers are the same.

    The worker may not know the kinds of decisions from outside the package.
    """
    KINDS.update(kinds)
    with limit_threads(threads):
        return [evaluator.accuracy(one) for one in configurations]


def _as_strategy(strategy: Strategy | Mapping[str, Any]) -> Strategy:
    if isinstance(strategy, Strategy):
        return strategy
    if isinstance(strategy, Mapping):
        return strategy_from_dict(dict(strategy))
    raise UserTypeError(
        "expected a strategy, as load_strategy(path) or info['strategy'] gives it, got "
        f"{strategy!r}"
    )
