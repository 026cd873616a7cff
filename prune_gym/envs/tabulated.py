"""An environment whose whole decision space was evaluated once: its true front is known."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.envs.vector import CompressionVectorEnv
from prune_gym.errors import UserError
from prune_gym.objectives.pareto import non_dominated

REPAIR = "least_squares"
TABLES = Path(__file__).parents[1] / "models" / "weights"


class NotTabulatedError(UserError):
    """Not all strategies that are asked about are in the table."""


class TabulatedEnv(CompressionEnv):
    """A :class:`CompressionEnv` that looks accuracies up instead of measuring them.

    Everything else (decisions, costs, budgets, ``apply``, ``validate``) is the real thing. What the
    table does not hold (other widths, kinds of decisions or repair) is evaluated.
    """

    def __init__(self, table: str, **kwargs: Any) -> None:
        """Make the environment.

        Args:
            table: name of a shipped table, ``NETWORK-DATA`` (``benchmarks/decision_space.py``); it
                holds for channel decisions and candidates repaired by least squares.
            **kwargs: those of :class:`CompressionEnv`.

        Raises:
            UserError: the table is damaged, or of another network or data set.
        """
        super().__init__(**kwargs)
        task = f"{kwargs.get('network')}-{kwargs.get('data')}"
        if table != task:
            raise UserError(
                f"the table {table} knows nothing about {task}: leave network and data as they "
                "are, or take another id"
            )
        self._table_name = table
        self._tabulated = self._fill_memo()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Look up in another process too: an evaluator is pickled by name, without its memo."""
        self.__dict__.update(state)
        if len(self.evaluator.memo) < self._tabulated:  # copies in the same process share it
            self._fill_memo()

    def _fill_memo(self) -> int:
        """Put the table's accuracies where the evaluator looks first; returns how many."""
        file = table_path(self._table_name)
        try:
            arrays = load_file(file)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file} is not a whole table ({error}); fetch it again") from None
        kinds = {decision.kind for decision in self.decisions}
        if self.evaluator.repair != REPAIR or kinds != {"channels"}:
            return 0
        accuracies = arrays["hits"] / arrays["images"]
        for key, accuracy in zip(self._keys(arrays["values"]), accuracies, strict=True):
            self.evaluator.memo[key] = float(accuracy)
        return len(accuracies)

    def strategies(self) -> np.ndarray:
        """Return the values of every strategy within the budgets, ``(n, decisions)``."""
        every = product(*(decision.options for decision in self.decisions))
        values = np.array(list(every), dtype=np.float64)
        return values[self.within_budgets(values)]

    def returns(self, values: np.ndarray, gamma: float = 1.0) -> np.ndarray:
        """Return the discounted returns ``(n, reward_dim)`` of strategies ``(n, decisions)``.

        Raises:
            NotTabulatedError: the table does not hold all of them.
        """
        steps = len(self.decisions)
        discounts = gamma ** np.arange(steps)
        accuracies = [self.evaluator.memo.get(key) for key in self._keys(values)]
        if None in accuracies:
            raise NotTabulatedError(
                f"{accuracies.count(None)} of {len(values)} strategies are not in the table; its "
                "front is known for the decisions that it was made with"
            )
        if self._terminal_only:
            returns = discounts[-1] * self.savings(values)
        else:
            returns = np.zeros((len(values), self.reward_dim))
            before = np.zeros_like(returns)
            for step, discount in enumerate(discounts):
                rows = np.tile(self.plan.full, (len(values), 1))
                rows[:, : step + 1] = values[:, : step + 1]
                after = self.savings(rows)
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

    def _keys(self, values: np.ndarray) -> Iterator[bytes]:
        configuration = self.plan.configure(values.astype(np.float64))
        return (configuration[row].key() for row in range(len(values)))


class TabulatedVectorEnv(CompressionVectorEnv):
    """Several of them, for ``gym.make_vec``."""

    env_class = TabulatedEnv


def table_path(name: str) -> Path:
    """Return where a shipped table is."""
    return TABLES / f"{name}-table.safetensors"


def save_table(path: Path, values: np.ndarray, accuracies: np.ndarray, images: int) -> None:
    """Write the accuracies ``(n,)`` of strategies given as values of decisions ``(n, decisions)``.

    Values are whole numbers below 65,536 (widths); accuracies are kept as hits among ``images``.
    """
    arrays: dict[str, np.ndarray] = {
        "values": values.astype(np.uint16),
        "hits": np.round(accuracies * images).astype(np.uint16),
        "images": np.array([images], dtype=np.uint32),
    }
    save_file(arrays, path)
