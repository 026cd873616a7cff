"""A sweep of uniform strategies: the reference in pictures of a front.

A uniform strategy takes the same action for every decision: every layer keeps the same share.
"""

import numpy as np

from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.experiments.evaluated_strategy import EvaluatedStrategy, evaluated_from_dict

RATIOS = 7  # both ends included; the last one is the original network


class UniformSweep:
    """The uniform strategies within the budgets, and which of them are evaluated."""

    def __init__(self, env: CompressionEnv) -> None:
        """Take the sweep of an environment; nothing is evaluated yet."""
        self._env, space = env, env.problem.space
        actions = np.repeat(np.linspace(-1, 1, RATIOS)[:, None], len(space), axis=1)
        values = space.canonicalise(space.decode(actions))
        values = values[env.problem.feasible(values)]
        self._found: dict[tuple[float, ...], EvaluatedStrategy | None]
        self._found = {tuple(row): None for row in values.tolist()}

    @property
    def evaluated(self) -> list[EvaluatedStrategy]:
        """Those that are evaluated, the smallest ratio first."""
        return [each for each in self._found.values() if each is not None]

    def add(self, record: EvaluatedStrategy) -> None:
        """Take a strategy that the search has evaluated, where it is one of the sweep."""
        key = tuple(self._env.problem.values_of(record.strategy).tolist())
        if key in self._found:
            self._found[key] = record

    def complete(self) -> int:
        """Evaluate those that the search has not; returns how many."""
        missing = [key for key, record in self._found.items() if record is None]
        for key in missing:
            info = self._env.terminal_info(np.array(key))
            self._found[key] = evaluated_from_dict(info, "uniform strategy")
        return len(missing)
