"""Which strategies of a population survive: NSGA-II's selection and JCW's uniform one.

All take returns, higher is better in every entry, ``float64 (n, k)``, and return indices.
"""

import moocore
import numpy as np


def rank_and_crowding(returns: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` survivors: front after front, the last one by crowding distance.

    Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II".
    """
    chosen: list[int] = []
    for front in fronts(returns):
        fits = len(chosen) + len(front) <= count
        chosen += front.tolist() if fits else _by_crowding_distance(front, returns)
    return np.array(chosen[:count])


class UniformSelection:
    """JCW's uniform non-dominated sorting (arXiv 2110.08013): survivors along the whole range.

    For each of some reference values of one cost, evenly spaced over its range, the strategies are
    sorted into fronts with the distance to the reference in the place of that cost. Survivors
    are the union of all first fronts, then of all second ones, and so on. Of a union that does not
    fit whole the references choose in turn, each by crowding distance in its own front: with three
    objectives and more the first front alone is often larger than the population.

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
            here = [(view, sorted_[stage]) for view, sorted_ in views if stage < len(sorted_)]
            _in_turn(chosen, [_by_crowding_distance(front, view) for view, front in here])
        return np.array(chosen[:count])


def fronts(returns: np.ndarray) -> list[np.ndarray]:
    """Return the indices of every front, the non-dominated one first."""
    ranks = moocore.pareto_rank(returns, maximise=True)
    return [np.flatnonzero(ranks == rank) for rank in range(ranks.max() + 1)]


def crowding_distance(returns: np.ndarray) -> np.ndarray:
    """Return the crowding distance of each point of a front, ``(n,)``; infinite at the ends."""
    distance = np.zeros(len(returns))
    for column in returns.T:
        order = column.argsort(kind="stable")
        span = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance


def _by_crowding_distance(front: np.ndarray, returns: np.ndarray) -> list[int]:
    return front[(-crowding_distance(returns[front])).argsort(kind="stable")].tolist()


def _in_turn(chosen: list[int], wishes: list[list[int]]) -> None:
    """Append, turn after turn, from every list its first that is not chosen yet."""
    left = [iter(each) for each in wishes]
    while left:
        picks = []
        for wish in left:
            pick = next((index for index in wish if index not in chosen), None)
            if pick is not None:
                chosen.append(pick)
                picks.append(wish)
        left = picks
