"""Variations of strategies: crossover, mutation, repair to the budgets, coordinate descent."""

from collections.abc import Callable

import numpy as np

from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.search_space import SearchSpace

VARIATIONS = 400  # of a call
HALVINGS = 7  # of the interval in which the smallest sufficient reduction lies
SWEEPS = 3  # of coordinate descent over all decisions; few strategies change after the third


def mutate(
    problem: CompressionProblem, parents: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return variations of strategies: values (n, decisions) -> ``(VARIATIONS, decisions)``.

    Half of them are crossed over; in each up to four decisions are moved, on average.
    """
    one, other = parents[rng.integers(len(parents), size=(2, VARIATIONS))]
    children = np.where(rng.random(one.shape) < rng.choice([0.0, 0.5], (VARIATIONS, 1)), other, one)
    count = len(problem.decisions)
    moved = rng.random(one.shape) < rng.uniform(0, 4, (VARIATIONS, 1)) / count
    steps = np.empty_like(children)
    for index, decision in enumerate(problem.decisions):
        steps[:, index] = rng.normal(0, max(len(decision.options) / 6, 1), VARIATIONS)
    return repair_to_budget(problem, _moved(problem, children, np.round(steps) * moved), rng)


def repair_to_budget(
    problem: CompressionProblem, values: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return strategies (n, decisions), those over a budget reduced until they meet it.

    Where a budget is just met, most moves break it, and something else has to give way: decision
    after decision in random order, from all together (steepness 1) to one by one. Where costs do
    not fall with every decision that may not be enough, and a strategy stays as it is.
    """
    values = problem.space.canonicalise(values)
    over = np.flatnonzero(~problem.feasible(values))
    if not len(over):
        return values
    count = len(problem.decisions)
    starts = rng.random((len(over), count))
    steepness = np.exp(rng.uniform(0, np.log(count), (len(over), 1)))
    spans = np.array([len(decision.options) - 1 for decision in problem.decisions])
    found = values[over]
    too_little, enough = np.zeros((len(over), 1)), np.ones((len(over), 1))
    for _ in range(HALVINGS):
        share = (too_little + enough) / 2
        gone = np.clip(share * (steepness + 1) - steepness * starts, 0, 1)  # 1: the least option
        tried = problem.space.canonicalise(_moved(problem, values[over], -np.round(gone * spans)))
        met = problem.feasible(tried)[:, None]
        found = np.where(met, tried, found)
        too_little, enough = np.where(met, too_little, share), np.where(met, share, enough)
    values[over] = found
    return values


def _moved(problem: CompressionProblem, values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return strategies (n, decisions) moved by so many options, as far as there are any."""
    moved = np.empty_like(values)
    for index, decision in enumerate(problem.decisions):
        places = np.searchsorted(decision.options, values[:, index]) + steps[:, index].astype(int)
        moved[:, index] = decision.options[np.clip(places, 0, len(decision.options) - 1)]
    return moved


def descend(
    space: SearchSpace,
    values: np.ndarray,
    loss: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return strategies after coordinate descent: decision by decision the option of least loss.

    Args:
        space: the decisions.
        values: to start from, ``(n, decisions)``.
        loss: (values ``(m, decisions)``, which start each of them comes from ``(m,)``) -> ``(m,)``.
    """
    values, starts = values.copy(), np.arange(len(values))
    least = loss(values, starts)
    for _ in range(SWEEPS):
        before = least
        for index, decision in enumerate(space.decisions):
            count = len(decision.options)
            rows = np.repeat(values, count, axis=0)
            rows[:, index] = np.tile(decision.options, len(values))
            found = loss(rows, np.repeat(starts, count)).reshape(-1, count)
            better = found.min(axis=1) < least
            best = decision.options[found.argmin(axis=1)]
            values[:, index] = np.where(better, best, values[:, index])
            least = np.minimum(least, found.min(axis=1))
        if not (least < before).any():
            break
    return values
