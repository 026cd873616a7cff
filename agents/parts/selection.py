"""Which strategies of a population survive: NSGA-II's selection and JCW's uniform one.

All take returns, higher is better in every entry, ``float64 (n, k)``, and return indices.
"""

import moocore
import numpy as np


def by_crowding(returns: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` survivors: front after front, the last one's loneliest.

    Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II".
    """
    chosen: list[int] = []
    for front in fronts(returns):
        _take(chosen, front, returns, count)
    return np.array(chosen)


class UniformSelection:
    """JCW's uniform non-dominated sorting (arXiv 2110.08013): survivors along the whole range.

    For each of some reference values of one cost, evenly spaced over its range, the strategies are
    sorted into fronts with the distance to the reference in the place of that cost. Survivors
    are the union of all first fronts, then of all second ones, and so on; of a front that does not
    fit whole, the loneliest.

    Attributes:
        references: how many reference values.
        ends: least and greatest return of that cost seen so far.
    """

    def __init__(self, column: int, references: int = 4) -> None:
        """Take the column of the cost in the returns."""
        self.references, self.ends = references, (np.inf, -np.inf)
        self._column = column

    def __call__(self, returns: np.ndarray, count: int) -> np.ndarray:
        """Return the indices of ``count`` survivors."""
        saved = returns[:, self._column]
        self.ends = (min(self.ends[0], saved.min()), max(self.ends[1], saved.max()))
        views = []
        for reference in np.linspace(*self.ends, self.references):
            view = returns.copy()
            view[:, self._column] = -np.abs(saved - reference)
            views.append((view, fronts(view)))
        chosen: list[int] = []
        for stage in range(max(len(sorted_) for _, sorted_ in views)):
            for view, sorted_ in views:
                if stage < len(sorted_):
                    _take(chosen, sorted_[stage], view, count)
        return np.array(chosen)


def fronts(returns: np.ndarray) -> list[np.ndarray]:
    """Return the indices of every front, the non-dominated one first."""
    ranks = moocore.pareto_rank(returns, maximise=True)
    return [np.flatnonzero(ranks == rank) for rank in range(ranks.max() + 1)]


def crowding_distance(returns: np.ndarray) -> np.ndarray:
    """Return how lonely each point of a front is, ``(n,)``; the ends are infinitely so."""
    distance = np.zeros(len(returns))
    for column in returns.T:
        order = column.argsort(kind="stable")
        span = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance


def _take(chosen: list[int], front: np.ndarray, view: np.ndarray, count: int) -> None:
    """Append what is new of a front, or of one that does not fit the loneliest of it."""
    new = np.setdiff1d(front, chosen)
    room = count - len(chosen)
    if len(new) > room:
        new = new[(-crowding_distance(view[new])).argsort(kind="stable")[:room]]
    chosen.extend(new.tolist())
