"""What is known of strategies before any evaluation: what they save and what energy they lose."""

import numpy as np

from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.objectives.objective import saving
from prune_gym.search_space import SearchSpace

LARGEST_SHARE = 0.99  # of a decision's energy: keeps the logarithm finite


def shares_lost(space: SearchSpace, values: np.ndarray) -> np.ndarray:
    """Return the share of output energy that each decision is expected to lose, like values."""
    lost = np.empty(values.shape)
    for index, decision in enumerate(space.decisions):
        lost[:, index] = np.interp(values[:, index], decision.options, decision.sensitivity)
    return lost


def energy_lost(
    space: SearchSpace, values: np.ndarray, shares: np.ndarray | None = None
) -> np.ndarray:
    """Return the energy that strategies are expected to lose: values (n, decisions) -> ``(n,)``.

    Each decision takes its share of what the others leave, so the shares are added as minus the
    logarithm of what is left. Decisions in a skipped block lose nothing: the block lost it all.

    ``shares`` are those of :func:`shares_lost`, where they are known.
    """
    shares = shares_lost(space, values) if shares is None else shares
    lost = np.zeros(len(values))
    blocks = np.array([decision.kind == "block" for decision in space.decisions])
    skipped = np.where(blocks, values, space.upper)
    active = space.canonicalise(skipped) == skipped
    for taken in (np.log1p(-np.minimum(shares, LARGEST_SHARE)) * active).T:
        lost -= taken
    return lost


class Outlook:
    """The objectives of a problem as far as they are known without any evaluation.

    Where latency is measured by the clock, flops stand for it.

    Attributes:
        problem: what is planned.
        chance: the accuracy of guessing, None where accuracy is no objective.
    """

    def __init__(self, problem: CompressionProblem) -> None:
        """Take the problem; nothing is evaluated."""
        self.problem = problem
        objectives = [objective.name for objective in problem.objectives]
        self.chance = None
        if "accuracy" in objectives:
            self.chance = float(problem.reference_point[objectives.index("accuracy")])
        names = [o.name if o.deterministic else "flops" for o in problem.objectives]
        wanted = dict.fromkeys([*names, *problem.budgets.limits])
        self._costs = [problem.costs[name] for name in wanted if name in problem.costs]

    def savings(self, values: np.ndarray) -> np.ndarray:
        """Return what strategies save, as shares: values (n, decisions) -> ``(n, costs)``."""
        problem, saved = self.problem, np.empty((len(values), len(self._costs)))
        configuration = problem.space.configure(values)
        for column, cost in enumerate(self._costs):
            saved[:, column] = saving(cost(configuration), cost(problem.original_configuration))
        return saved

    def lost(self, values: np.ndarray) -> np.ndarray:
        """Return the energy that strategies lose, ``(n,)``; 0 where accuracy is no objective."""
        if self.chance is None:
            return np.zeros(len(values))
        return energy_lost(self.problem.space, values)
