"""Strategies that save much for the output energy that they lose, found without any evaluation.

Costs are exact, and the energy that every option loses was measured when the environment was made.
For random weights of the costs, and multipliers from "save nothing" to "save everything",
coordinate descent over the options minimizes ``energy lost - multiplier * weighted savings``. What
that finds lies on the convex part of the front; mutations of it find the rest.
"""

import numpy as np

from prune_gym.agents.common.candidates import descend, mutate, repair_to_budget
from prune_gym.agents.sensitivity.outlook import Outlook
from prune_gym.envs.rollouts import decode_within_budgets
from prune_gym.objectives.pareto import non_dominated

DESCENTS = 64  # pairs of cost weights and a multiplier
MULTIPLIERS = (0.005, 5.0)  # in units of the energy that the smallest strategy loses
MUTATIONS = 10  # rounds


def plan(outlook: Outlook, rng: np.random.Generator) -> np.ndarray:
    """Return distinct strategies within the budgets, ``(n, decisions)``, n at least 1.

    None of them saves as much of every cost as another one and loses more energy.
    """
    values = _descents(outlook, rng)
    for _ in range(MUTATIONS):
        children = mutate(outlook.problem, values, rng)
        children = children[outlook.problem.feasible(children)]
        values = np.unique(np.concatenate([values, children]), axis=0)
        known = np.column_stack([outlook.savings(values), -outlook.lost(values)])
        values = values[non_dominated(known)]
    return values


def _descents(outlook: Outlook, rng: np.random.Generator) -> np.ndarray:
    """Return the strategies that coordinate descent finds, ``(n, decisions)``."""
    problem, space = outlook.problem, outlook.problem.space
    costs = outlook.savings(space.lower[None]).shape[1]
    most = float(outlook.lost(space.lower[None])[0]) or 1.0
    weights = rng.dirichlet(np.ones(max(costs, 1)), DESCENTS)[:, :costs]
    weights *= most * np.geomspace(*MULTIPLIERS, DESCENTS)[:, None]

    def loss(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
        values = space.canonicalise(values)
        return outlook.lost(values) - (weights[starts] * outlook.savings(values)).sum(axis=1)

    def loss_within_budgets(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
        found = np.full(len(values), np.inf)
        feasible = problem.feasible(space.canonicalise(values))
        found[feasible] = loss(values[feasible], starts[feasible])
        return found

    # Bits are chosen among fewer than the original's, which is no option then.
    largest = np.array([decision.options[-1] for decision in problem.decisions], dtype=np.float64)
    values = descend(space, np.repeat(largest[None], DESCENTS, axis=0), loss)
    over = ~problem.feasible(space.canonicalise(values))
    if over.any():
        repaired = repair_to_budget(problem, values[over], rng)
        weights = weights[over]
        values = np.concatenate([values[~over], descend(space, repaired, loss_within_budgets)])
        values = values[problem.feasible(space.canonicalise(values))]
        # What an episode of the smallest options leads to meets every budget.
        smallest = decode_within_budgets(problem, -np.ones((1, len(space))))
        values = np.concatenate([values, smallest])
    return np.unique(space.canonicalise(values), axis=0)
