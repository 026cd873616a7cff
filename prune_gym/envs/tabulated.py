"""An environment whose whole search space was evaluated once: its true front is known."""

from itertools import product
from typing import Any

import numpy as np

from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.envs.make import compression_problem
from prune_gym.envs.vector import CompressionVectorEnv
from prune_gym.errors import UserError
from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.evaluation.table_evaluator import TableEvaluator
from prune_gym.objectives.pareto import non_dominated


class NotTabulatedError(UserError):
    """Not all strategies that are asked about are in the table."""


class TabulatedEnv(CompressionEnv):
    """A `CompressionEnv` that looks accuracies up instead of measuring them.

    Everything else is the real thing. What the table does not hold (other widths, kinds of
    decisions or repair) is evaluated.
    """

    def strategies(self) -> np.ndarray:
        """Return the values of every strategy within the budgets, ``(n, decisions)``."""
        every = product(*(decision.options for decision in self.problem.decisions))
        values = np.array(list(every), dtype=np.float64)
        return values[self.problem.feasible(values)]

    def returns(self, values: np.ndarray, gamma: float = 1.0) -> np.ndarray:
        """Return the discounted returns ``(n, reward_dim)`` of strategies ``(n, decisions)``.

        Raises:
            NotTabulatedError: the table does not hold all of them.
        """
        problem, steps = self.problem, len(self.problem.space)
        discounts = gamma ** np.arange(steps)
        configuration, cache = problem.space.configure(values), problem.evaluator.cache
        accuracies = [cache.get(configuration[row].key()) for row in range(len(values))]
        if None in accuracies:
            raise NotTabulatedError(
                f"{accuracies.count(None)} of {len(values)} strategies are not in the table; its "
                "front is known for the decisions that it was made with"
            )
        if self.reward == "terminal":
            returns = discounts[-1] * problem.savings(values)
        else:
            returns = np.zeros((len(values), self.reward_dim))
            before = np.zeros_like(returns)
            for step, discount in enumerate(discounts):
                rows = np.tile(problem.space.upper, (len(values), 1))
                rows[:, : step + 1] = values[:, : step + 1]
                after = problem.savings(rows)
                returns += discount * (after - before)
                before = after
        names = [objective.name for objective in self.objectives]
        if "accuracy" in names:
            returns[:, names.index("accuracy")] = discounts[-1] * np.array(accuracies)
        return returns

    def pareto_front(self, gamma: float = 1.0) -> list[np.ndarray]:
        """Return the true front: the returns that no strategy dominates (as in MO-Gymnasium)."""
        returns = self.returns(self.strategies(), gamma)
        return list(returns[non_dominated(returns)])


def tabulated_env(
    table: str,
    *,
    reward: str = "incremental",
    discrete: int | None = None,
    render_mode: str | None = None,
    **arguments: Any,
) -> TabulatedEnv:
    """Make an environment of a shipped table.

    Args:
        table: its name, ``NETWORK-DATA`` (``benchmarks/decision_space.py`` makes one); it holds for
            channel decisions and candidates repaired by least squares.
        reward: "incremental" or "terminal".
        discrete: number of discrete actions, instead of the continuous one.
        render_mode: None, "human", "ansi" or "rgb_array".
        **arguments: those of `prune_gym.envs.make.compression_problem`.

    Raises:
        UserError: the table is damaged, or of another network or data set.
    """
    task = f"{arguments.get('network')}-{arguments.get('data')}"
    if table != task:
        raise UserError(
            f"the table {table} knows nothing about {task}: leave network and data as they "
            "are, or take another id"
        )
    real = compression_problem(**arguments)
    problem = CompressionProblem(
        TableEvaluator(real.evaluator, table),
        real.space,
        real.costs,
        [objective.name for objective in real.objectives],
        real.budgets.limits,
    )
    return TabulatedEnv(problem, reward=reward, discrete=discrete, render_mode=render_mode)


class TabulatedVectorEnv(CompressionVectorEnv):
    """Several of them, for ``gym.make_vec``."""

    make = staticmethod(tabulated_env)
