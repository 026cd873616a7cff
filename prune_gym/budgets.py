"""Hard caps on costs that no sequence of actions can exceed."""

from collections.abc import Mapping, Sequence

import numpy as np

from prune_gym.costs import Cost
from prune_gym.decisions import ChannelDecision
from prune_gym.errors import unknown

STARTS = 30


class Budgets:
    """The widths that a decision may take so that every budget can still be met.

    A width is allowed when some completion of the undecided groups meets all budgets at once.
    Two completions are tried: the smallest width everywhere, which is cheapest for every cost
    that grows with width, and the strategy whose worst ratio of cost to budget was found lowest,
    for costs that do not (measured latency). The completion that allowed one decision is still
    there at the next, so the set is never empty and the last decision meets every budget exactly,
    after rounding.
    """

    def __init__(
        self,
        limits: Mapping[str, float],
        costs: Mapping[str, Cost],
        decisions: tuple[ChannelDecision, ...],
    ) -> None:
        """Check that the budgets can be met.

        Args:
            limits: cost name -> largest allowed fraction of the original network's cost.
            costs: all costs by name.
            decisions: one per group.

        Raises:
            ValueError: an unknown cost, a fraction outside (0, 1], or budgets that no strategy
                meets; the message gives the least that can be reached.
        """
        for name, limit in limits.items():
            if name not in costs:
                raise ValueError(unknown("budget", name, costs))
            if not 0 < limit <= 1:
                raise ValueError(
                    f"budget {name}={limit!r}: expected a fraction of the original network's "
                    f"{name} in (0, 1], such as {name}=0.5"
                )
        self._decisions = decisions
        full = np.array([[decision.size for decision in decisions]])
        self._limits = [
            (costs[name], float(limit * costs[name](full)[0])) for name, limit in limits.items()
        ]
        smallest = np.array([decision.options[0] for decision in decisions])
        self._completions = smallest[None]
        if self._limits:
            self._completions = np.stack([smallest, self._descend(smallest, self._worst)])
            if (self._worst(self._completions) > 1).all():
                self._completions[1] = self._cheapest(self._worst)
                self._refuse_unreachable(limits, full)

    def allowed(self, widths: np.ndarray, index: int) -> np.ndarray:
        """Return a mask over the options of decision ``index``, given the widths before it."""
        options = self._decisions[index].options
        if not self._limits:
            return np.ones(len(options), dtype=bool)
        rows = np.repeat(self._completions[:, None], len(options), axis=1)
        rows[:, :, :index] = widths[:index]
        rows[:, :, index] = options
        meets = self._worst(rows.reshape(-1, rows.shape[-1])) <= 1
        return np.asarray(meets.reshape(len(self._completions), -1).any(axis=0))

    def exceeded(self, widths: np.ndarray) -> str:
        """Return which budgets a strategy's widths (groups,) exceed, "" where none is."""
        return ", ".join(
            f"{cost.name} ({cost(widths[None])[0]:g} of {limit:g} {cost.unit})"
            for cost, limit in self._limits
            if cost(widths[None])[0] > limit
        )

    def _worst(self, widths: np.ndarray) -> np.ndarray:
        """Return the largest ratio of a cost to its budget: widths (n, groups) -> (n,)."""
        return np.stack([cost(widths) / limit for cost, limit in self._limits]).max(axis=0)

    def _descend(self, start: Sequence[int] | np.ndarray, cost) -> np.ndarray:
        """Lower ``cost`` one group at a time until no single change helps."""
        best = np.array(start)
        value = float(cost(best[None])[0])
        improved = True
        while improved:
            improved = False
            for index, decision in enumerate(self._decisions):
                rows = np.repeat(best[None], len(decision.options), axis=0)
                rows[:, index] = decision.options
                costs = cost(rows)
                if costs.min() < value:
                    best, value = rows[costs.argmin()], float(costs.min())
                    improved = True
        return best

    def _cheapest(self, cost) -> np.ndarray:
        """Return the best of many descents: a cost that is not monotone has local minima."""
        rng = np.random.default_rng(0)
        starts = [[rng.choice(d.options) for d in self._decisions] for _ in range(STARTS)]
        found = np.array([self._descend(row, cost) for row in [self._completions[0], *starts]])
        return found[cost(found).argmin()]

    def _refuse_unreachable(self, limits: Mapping[str, float], full: np.ndarray) -> None:
        if (self._worst(self._completions) <= 1).any():
            return
        least = []
        for cost, _ in self._limits:
            cheapest = self._cheapest(cost)[None]
            least.append(f"{cost.name}={np.ceil(1e4 * cost(cheapest)[0] / cost(full)[0]) / 1e4:g}")
        asked = ", ".join(f"{name}={limit:g}" for name, limit in limits.items())
        raise ValueError(
            f"no strategy meets the budgets {asked}; the least that can be reached, each by "
            f"itself, is {', '.join(least)} (a smaller min_keep allows smaller networks)"
        )
