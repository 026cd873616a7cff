"""Episodes without evaluation: several at once, in microseconds a step.

Decisions, budgets, costs and observations are exact; only the accuracy needs a candidate.
`prune_gym.envs.compression_env.CompressionEnv` steps a batch of one and measures the rest;
agents roll out many (`prune_gym.envs.rollouts`).
"""

import numpy as np

from prune_gym.costs import COSTS
from prune_gym.envs.observation import Observer, Progress
from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.graph.configuration import Configuration
from prune_gym.objectives.objective import saving

ALWAYS_OBSERVED = ("flops", "params", "memory", "latency")  # the rest where they are wanted


class EpisodeBatch:
    """n episodes of one problem, each where its own decisions have brought it.

    Attributes:
        problem: what is decided.
        values: of the decisions; those still open have the original's value, (n, decisions).
        index: the next decision of each; the number of decisions at the end, ``int (n,)``.
        shares: costs as shares of the original's, (3, n, costs): as decided with the rest
            untouched; with the next decision at its lowest; with all the rest at its lowest.
        allowed: which options of the next decision the budgets allow, ``bool (n, most options)``.
        configuration: of ``values``.
        observations: of the first decisions, float32 (n, features).
    """

    def __init__(
        self, problem: CompressionProblem, episodes: int = 1, reward: str = "incremental"
    ) -> None:
        """Start the episodes.

        Args:
            problem: what is decided.
            episodes: how many.
            reward: "incremental" pays a cost's saving with the step that saves it, "terminal" pays
                all of them with the last step.
        """
        self.problem, self._terminal_only = problem, reward == "terminal"
        budgets, space = problem.budgets.limits, problem.space
        wanted = {*ALWAYS_OBSERVED, *(o.name for o in problem.objectives), *budgets}
        costs = [cost for name, cost in problem.costs.items() if name in wanted]
        self.observed = [cost for cost in costs if cost.deterministic]
        self._columns = [COSTS.index(cost.name) for cost in self.observed]
        self._limits = np.array([budgets.get(name, 1.0) for name in COSTS])
        full = problem.original_configuration
        self._original = np.array([cost(full)[0] for cost in self.observed])
        self._rewarded = [
            None if o.name == "accuracy" or not o.deterministic else COSTS.index(o.name)
            for o in problem.objectives
        ]
        self._observe = Observer(problem.evaluator.table, space.decisions)
        most = max(len(decision.options) for decision in space.decisions)
        self._order = np.arange(len(space))
        self._losses = np.zeros((len(space), most))
        for row, decision in zip(self._losses, space.decisions, strict=True):
            row[: len(decision.options)] = decision.sensitivity
        self.configuration: Configuration
        self.shares: np.ndarray
        self.allowed: np.ndarray
        self._begin(1)
        observations = self._survey()
        self._start = (self.configuration, self.shares, self.allowed, observations)
        self.restart(episodes)

    def restart(self, episodes: int = 1) -> np.ndarray:
        """Begin again with the original network; returns the first observations (n, features)."""
        self._begin(episodes)
        configuration, shares, allowed, observations = self._start  # the same for every episode
        self.configuration, self.allowed = configuration[self.index], allowed[self.index]
        self.shares, self.observations = shares[:, self.index], observations[self.index]
        return self.observations

    def _begin(self, episodes: int) -> None:
        """Set the decisions of all episodes to the original's values, with none made."""
        self.values = np.repeat(self.problem.space.upper[None], episodes, axis=0)
        self.index = np.zeros(episodes, dtype=np.int64)
        self._before, self._kept = np.ones(episodes), np.ones(episodes)
        self._lost = np.zeros((2, episodes))

    @property
    def ended(self) -> np.ndarray:
        """Which episodes have made their last decision, ``bool (n,)``."""
        return self.index == len(self.problem.space)

    def observed_shares(self) -> list[tuple[str, float]]:
        """Return the first episode's costs so far by name, as shares of the original's."""
        shares = self.shares[0, 0, self._columns]
        return [(cost.name, float(x)) for cost, x in zip(self.observed, shares, strict=True)]

    def keep(self, rows: np.ndarray) -> None:
        """Go on with some of the episodes only: a mask or indices over them."""
        self.values, self.index = self.values[rows], self.index[rows]
        self._before, self._kept = self._before[rows], self._kept[rows]
        self._lost, self.shares = self._lost[:, rows], self.shares[:, rows]
        self.allowed, self.configuration = self.allowed[rows], self.configuration[rows]

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Make the next decision of every episode; none of them may have ended.

        Args:
            actions: in [-1, 1], ``(n,)``.

        Returns:
            Observations float32 (n, features), and rewards float32 (n, k) with 0 for what needs a
            candidate: accuracy, and costs that are measured by the clock.
        """
        space, shares, row = self.problem.space, self.shares[0], np.arange(len(self.index))
        made = self.index.copy()
        options, original = space.options_at(made), space.upper[made]
        values = space.decode_at(made, actions, self.allowed)
        self.values[row, made] = values
        losses = self._losses[made, (options == values[:, None]).argmax(axis=1)]
        self._lost = np.array([losses, np.maximum(self._lost[1], losses)])
        self._kept = self._kept * (1 - losses)
        self._before = values / original
        self.index = space.advance(made, self.values)
        observations = self._survey()
        return observations, self._rewards(shares)

    def _rewards(self, before: np.ndarray) -> np.ndarray:
        if self._terminal_only:
            saved = saving(self.shares[0], 1.0) * self.ended[:, None]
        else:
            saved = before - self.shares[0]
        rewards = np.zeros((len(saved), len(self._rewarded)), dtype=np.float32)
        for place, column in enumerate(self._rewarded):
            if column is not None:
                rewards[:, place] = saved[:, column]
        return rewards

    def _survey(self) -> np.ndarray:
        """Compute costs and allowed options where the episodes stand; returns observations."""
        space, n = self.problem.space, len(self.index)
        open_decisions = self._order >= self.index[:, None]
        index = np.minimum(self.index, len(space) - 1)  # at the end, any decision: nothing is open
        this_lowest = np.where(
            open_decisions & (self._order == index[:, None]), space.lower, self.values
        )
        all_lowest = np.where(open_decisions, space.lower, self.values)
        configuration = space.configure(np.concatenate([self.values, this_lowest, all_lowest]))
        self.configuration = configuration[:n]
        self.shares = np.ones((3, n, len(COSTS)))  # an unknown cost cannot be cut
        shares = self.shares.reshape(3 * n, -1)
        for column, cost, original in zip(
            self._columns, self.observed, self._original, strict=True
        ):
            shares[:, column] = cost(configuration) / original
        self.allowed = self.problem.budgets.allowed(self.values, index)
        row, options, count = np.arange(n), space.options_at(index), self.allowed.shape[1]
        first = self.allowed.argmax(axis=1)
        last = count - 1 - self.allowed[:, ::-1].argmax(axis=1)
        ends = np.array([options[row, first], options[row, last]]) / space.upper[index]
        return self._observe(
            Progress(
                self.configuration,
                self.index,
                self._before,
                self._lost,
                self._kept,
                self.shares,
                self._limits,
                ends,
            )
        )
