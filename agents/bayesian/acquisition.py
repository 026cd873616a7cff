"""What to evaluate next: the strategy of the largest expected hypervolume improvement.

Transitions and costs of an episode are known exactly and cost microseconds; only its accuracy has
to be measured. So many strategies are considered (proposals, those planned from sensitivities,
mutations of them and of the front), a model predicts their accuracies, and the one whose expected
hypervolume improvement is largest (EHVI; Emmerich, Giannakoglou & Naujoks, IEEE TEVC 2006) is
evaluated. Where people have priorities,
it is the one whose expected utility improvement is (Astudillo & Frazier, AISTATS 2020).
"""

from collections.abc import Callable

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import ndtr

from prune_gym.agents.bayesian.surrogate import AccuracyModel, from_log_odds, log_odds
from prune_gym.agents.common.candidates import mutate
from prune_gym.agents.common.dominance import exceeds, reachable
from prune_gym.agents.sensitivity.outlook import Outlook
from prune_gym.agents.sensitivity.plans import plan
from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.objectives.pareto import non_dominated

SAMPLES = 100_000  # points of the unit box by which hypervolume is estimated
REFERENCE_SAMPLES = 4_000  # of them, undominated still and within reach
OPTIMISM = 3.0  # standard deviations above the mean: the upper bound of a strategy
NODES = 5  # of the quadrature over what an accuracy may be
ROUNDS, PARENTS = 4, 40  # of mutations of the best
PLANNED = 200  # of the strategies planned from sensitivities, drawn for every choice


class Acquisition:
    """A surrogate of accuracy, and the choice of what to evaluate next."""

    def __init__(
        self,
        problem: CompressionProblem,
        seed: int | None,
        preferences: np.ndarray | None = None,
        sensitivities: bool = True,
    ) -> None:
        """Start with nothing evaluated.

        Args:
            problem: what is optimized.
            seed: of the sampled points and of variations.
            preferences: weights ``(m, k)``. With them the strategy of the largest expected
                utility is chosen: the mean over them of the best weighted return.
            sensitivities: use them, for candidates and for the prior of the model.
        """
        self._preferences = preferences
        self._problem, self._rng = problem, np.random.default_rng(seed)
        names = [objective.name for objective in problem.objectives]
        self._accuracy = names.index("accuracy") if "accuracy" in names else None
        reference = problem.reference_point
        chance = 0.0 if self._accuracy is None else reference[self._accuracy]
        self.model = AccuracyModel(problem.space, chance, sensitivities)
        samples = self._rng.random((SAMPLES, len(names)))
        self._undominated = reference + (1 - reference) * samples
        self._plans = np.empty((0, len(problem.space)))
        if sensitivities:
            self._plans = plan(Outlook(problem), self._rng)
        self.values = np.empty((0, len(problem.space)))
        self.accuracies = np.empty(0)

    def observe(self, values: np.ndarray, accuracies: np.ndarray) -> None:
        """Take evaluated strategies: values (n, decisions), accuracies (n,)."""
        self.values = np.concatenate([self.values, values])
        self.accuracies = np.concatenate([self.accuracies, accuracies])
        for found in self.returns(values, accuracies):
            self._undominated = self._undominated[(self._undominated > found).any(axis=1)]
        full, values, accuracies = self._problem.space.upper, self.values, self.accuracies
        if not (values == full).all(axis=1).any():
            # Known without being played, which budgets may forbid: without it the model has only
            # seen ruins and learns slowly what it is that ruins.
            values = np.concatenate([full[None], values])
            accuracies = np.append(self._problem.original["accuracy"], accuracies)
        self.model.fit(values, accuracies)

    def predict(self, values: np.ndarray) -> np.ndarray:
        """Return the expected accuracies of strategies: values (n, decisions) -> ``(n,)``."""
        return from_log_odds(self.model.predict(values)[0])

    def suggest(self, proposals: np.ndarray, pending: np.ndarray | None = None) -> np.ndarray:
        """Return the best strategy ``(decisions,)`` to evaluate next, one that was not yet.

        Args:
            proposals: values of the actor's strategies ``(n, decisions)``.
            pending: values of strategies that are being evaluated ``(n, decisions)``.
        """
        known = self.values if pending is None else np.concatenate([self.values, pending])
        front = self.values[non_dominated(self.returns(self.values, self.accuracies))]
        mutated = mutate(self._problem, front, self._rng)
        planned = self._rng.choice(self._plans, min(PLANNED, len(self._plans)), replace=False)
        pool = self._new(np.concatenate([proposals, planned, mutated]), known)
        if not len(pool):
            return front[0]  # everything was evaluated
        acquisition = self._acquisition(pool)
        acquired = acquisition(pool)
        for _ in range(ROUNDS):
            parents = pool[np.argsort(-acquired)[:PARENTS]]
            children = self._new(mutate(self._problem, parents, self._rng), known)
            if len(children):
                pool = np.concatenate([pool, children])
                acquired = np.concatenate([acquired, acquisition(children)])
        return pool[acquired.argmax()]

    def _acquisition(self, pool: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """Return the acquisition function: values (n, decisions) -> ``(n,)``, higher is better."""
        if self._preferences is not None:
            returns = self.returns(self.values, self.accuracies)
            best = (returns @ self._preferences.T).max(axis=0)
            if (self.utility_gain(pool, best) > 0).any():
                return lambda values: self.utility_gain(values, best)
        samples = self.reachable_samples(pool)
        return lambda values: self.hypervolume_gain(values, samples)

    def reachable_samples(self, pool: np.ndarray) -> np.ndarray:
        """Return the samples that some strategy may dominate, by ascending accuracy.

        Most of the box no strategy can ever dominate.
        """
        upper_bounds = self._problem.savings(pool)
        if self._accuracy is not None:
            mean, deviation = self.model.predict(pool)
            upper_bounds[:, self._accuracy] = from_log_odds(mean + OPTIMISM * deviation)
        samples = reachable(self._undominated, upper_bounds, REFERENCE_SAMPLES)
        return samples[np.argsort(samples[:, self._accuracy or 0])]

    def returns(self, values: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
        """Return the returns ``(n, k)`` of strategies (n, decisions) with accuracies (n,)."""
        returns = self._problem.savings(values)
        if self._accuracy is not None:
            returns[:, self._accuracy] = accuracies
        return returns

    def _new(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Return those within the budgets that are not known, each once."""
        values = np.unique(self._problem.space.canonicalise(values), axis=0)
        played = {row.tobytes() for row in known}
        fresh = np.array([row.tobytes() not in played for row in values], dtype=bool)
        return values[fresh & self._problem.feasible(values)]

    def utility_gain(self, values: np.ndarray, best: np.ndarray) -> np.ndarray:
        """Return the expected improvement of the expected utility of strategies, ``(n,)``.

        Args:
            values: of the strategies ``(n, decisions)``.
            best: largest weighted return so far for each preference ``(m,)``.
        """
        assert self._preferences is not None
        returns = self._problem.savings(values)
        if self._accuracy is None:
            return np.maximum(returns @ self._preferences.T - best, 0).mean(axis=1)
        mean, deviation = self.model.predict(values)
        gain = np.zeros(len(values))
        for place, weight in zip(*hermegauss(NODES), strict=True):  # over the normal distribution
            returns[:, self._accuracy] = from_log_odds(mean + deviation * place)
            gain += weight * np.maximum(returns @ self._preferences.T - best, 0).mean(axis=1)
        return gain / np.sqrt(2 * np.pi)  # what the weights sum to

    def hypervolume_gain(self, values: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """Return the expected hypervolume improvement of strategies, ``(n,)``, up to a factor.

        It is the sum over the samples of the probability that a strategy dominates them. Eight
        samples that follow each other count as if they had the same accuracy.

        Args:
            values: of the strategies ``(n, decisions)``.
            samples: of :meth:`reachable_samples`.
        """
        returns = self._problem.savings(values)
        if self._accuracy is None:
            return exceeds(returns, samples).sum(axis=1)
        returns, costs = (np.delete(each, self._accuracy, axis=1) for each in (returns, samples))
        counts = np.bitwise_count(np.packbits(exceeds(returns, costs), axis=1))
        middle = np.minimum(np.arange(4, len(samples) + 4, 8), len(samples) - 1)
        needed = log_odds(samples[middle, self._accuracy])
        mean, deviation = self.model.predict(values)
        margins = (mean[:, None] - needed) / np.maximum(deviation, 1e-9)[:, None]
        return (counts * ndtr(margins)).sum(axis=1)
