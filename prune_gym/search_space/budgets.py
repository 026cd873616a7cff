"""Hard caps on costs that no sequence of actions can exceed.

Strategies are handled as the values of their decisions, ``float64 (n, decisions)``.
"""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np

from prune_gym.costs import Cost
from prune_gym.errors import UserError, unknown
from prune_gym.search_space.space import SearchSpace

NO_TABLE = (
    "; there is no latency table of this network here: measure one with `prune-gym profile` and "
    "give it as latency"
)

STARTS = 30


class Budgets:
    """The values that a decision may take so that every budget can still be met.

    A value is allowed when some completion of the open decisions meets all budgets at once.
    Two completions are tried: the smallest value everywhere, which is cheapest for every cost
    that grows with them, and the strategy whose worst ratio of cost to budget was found lowest,
    for costs that do not (measured latency). The completion that allowed one decision is still
    there at the next, so the set is never empty and the last decision meets every budget exactly,
    after rounding.

    Attributes:
        limits: cost name -> largest allowed fraction of the original network's cost.
    """

    def __init__(
        self,
        limits: Mapping[str, float],
        costs: Mapping[str, Cost],
        space: SearchSpace,
        meets: np.ndarray | None = None,
    ) -> None:
        """Check that the budgets can be met.

        Args:
            limits: cost name -> largest allowed fraction of the original network's cost.
            costs: all costs by name.
            space: the decisions.
            meets: values of a strategy that is known to meet them, ``(decisions,)``.

        Raises:
            UserError: an unknown cost, a fraction outside (0, 1], or budgets that no strategy
                meets; the message gives the least that can be reached.
        """
        if not isinstance(limits, Mapping):
            raise UserError(f'budgets: expected shares such as {{"flops": 0.5}}, got {limits!r}')
        for name, limit in limits.items():
            if name not in costs:
                hint = NO_TABLE if name == "latency" else ""
                raise UserError(unknown("budget", name, costs) + hint)
            if not costs[name].deterministic:
                raise UserError(
                    f"budget {name}={limit!r}: what is measured by the clock cannot be kept to "
                    "beforehand; take a latency table (`prune-gym profile`) for budgets"
                )
            if not isinstance(limit, Real) or isinstance(limit, bool) or not 0 < limit <= 1:
                raise UserError(
                    f"budget {name}={limit!r}: expected a fraction of the original network's "
                    f"{name} in (0, 1], such as {name}=0.5"
                )
        self.limits = {name: float(limit) for name, limit in limits.items()}
        self._space, self._decisions = space, space.decisions
        counts = np.array([len(decision.options) for decision in space.decisions])
        self._valid = np.arange(max(counts, default=0)) < counts[:, None]
        full = space.configure(space.upper[None])
        self._limits = [
            (costs[name], float(limit * costs[name](full)[0])) for name, limit in limits.items()
        ]
        smallest = space.lower
        self._completions = smallest[None]
        if self._limits:
            other = self._descend(smallest, self._worst) if meets is None else meets
            self._completions = np.stack([smallest, other])
            if (self._worst(self._completions) > 1).all():
                self._completions[1] = self._cheapest(self._worst)
                self._refuse_unreachable(limits)

    def allowed(self, values: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Return which options of the next decision leave every budget within reach.

        Args:
            values: of n episodes, whose decisions before the next one are made, (n, decisions).
            index: the next decision of each episode, ``int (n,)``.

        Returns:
            Mask over the options, ``bool (n, m)``; m is no less than the most options of one of
            these decisions.
        """
        valid = self._valid[index]
        if not self._limits:
            return valid
        count = valid.sum(axis=1).max()  # the rest only pads
        options, valid = self._space.options_at(index)[:, :count], valid[:, :count]
        columns = np.arange(len(self._space))
        made = (columns < index[:, None])[None, :, None]
        rows = np.where(made, values[:, None], self._completions[:, None, None])
        rows = np.repeat(rows, count, axis=2)
        episode = np.arange(len(index))
        # What only pads the array costs as much as the smallest option.
        rows[:, episode, :, index] = np.where(valid, options, options[:, :1])[:, None]
        meets = self._worst(rows.reshape(-1, rows.shape[-1])) <= 1
        return meets.reshape(rows.shape[:-1]).any(axis=0) & valid

    def met(self, values: np.ndarray) -> np.ndarray:
        """Return which strategies (n, decisions) exceed no budget, ``bool (n,)``."""
        return self._worst(values) <= 1 if self._limits else np.ones(len(values), dtype=bool)

    def exceeded(self, values: np.ndarray) -> str:
        """Return which budgets a strategy's values (decisions,) exceed, "" where none is."""
        configuration = self._space.configure(values[None])
        return ", ".join(
            f"{cost.name} ({cost(configuration)[0]:g} of {limit:g} {cost.unit})"
            for cost, limit in self._limits
            if cost(configuration)[0] > limit
        )

    def _worst(self, values: np.ndarray) -> np.ndarray:
        """Return the largest ratio of a cost to its budget: values (n, decisions) -> (n,)."""
        configuration = self._space.configure(values)
        return np.stack([cost(configuration) / limit for cost, limit in self._limits]).max(axis=0)

    def _descend(self, start: Sequence[float] | np.ndarray, cost) -> np.ndarray:
        """Lower ``cost`` of values one decision at a time until no single change helps."""
        best = np.array(start, dtype=np.float64)
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

    def _refuse_unreachable(self, limits: Mapping[str, float]) -> None:
        if (self._worst(self._completions) <= 1).any():
            return
        configure, least = self._space.configure, []
        full = configure(self._space.upper[None])
        for cost, _ in self._limits:
            cheapest = self._cheapest(lambda values, cost=cost: cost(configure(values)))
            share = cost(configure(cheapest[None]))[0] / cost(full)[0]
            least.append(f"{cost.name}={np.ceil(1e4 * share) / 1e4:g}")
        asked = ", ".join(f"{name}={limit:g}" for name, limit in limits.items())
        raise UserError(
            f"no strategy meets the budgets {asked}; the least that can be reached, each by "
            f"itself, is {', '.join(least)} (a smaller min_keep, round_to "
            "or min_density, or fewer bits, allow smaller networks)"
        )
