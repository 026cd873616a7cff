"""NSGA-II by pymoo over whole strategies: the evolutionary baseline.

"A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II" (Deb, Pratap, Agarwal & Meyarivan,
IEEE TEVC 2002) with its operators for real numbers, simulated binary crossover and polynomial
mutation, at pymoo's defaults. A gene is one decision's action in [-1, 1]; the objectives are the
episode's return. The first parents are the shared initial design.
"""

import gymnasium as gym
import numpy as np

from prune_gym.agents.common.action_spaces import require_actions
from prune_gym.agents.common.api import Settings, problem_of
from prune_gym.agents.common.initial_design import initial_design, random_ratio
from prune_gym.agents.common.rollout import play_all
from prune_gym.errors import MissingExtraError

try:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.duplicate import DuplicateElimination
    from pymoo.core.evaluator import Evaluator
    from pymoo.core.population import Population
    from pymoo.core.problem import Problem
    from pymoo.core.termination import NoTermination
    from pymoo.problems.static import StaticProblem
except ImportError as error:
    raise MissingExtraError(
        f"nsga2 needs an extra ({error}): pip install 'prune-gym[rivals]'"
    ) from error

POPULATION = 20  # small, so that a few hundred evaluations are ten generations and more


class Unplayed(DuplicateElimination):
    """Drops offspring whose strategy was played before: actions are rounded to options."""

    def __init__(self, env: gym.Env) -> None:
        """Know the decisions of ``env``."""
        super().__init__()
        self._space = problem_of(env).space
        self.played: set[tuple[float, ...]] = set()

    def values(self, actions: np.ndarray) -> tuple[float, ...]:
        """Return the values that actions ``(decisions,)`` mean, whatever budgets and blocks do."""
        return tuple(self._space.decode(actions))

    def _do(
        self, pop: Population, other: Population | None, is_duplicate: np.ndarray
    ) -> np.ndarray:
        seen = self.played | {self.values(x) for x in ([] if other is None else other.get("X"))}
        for index, x in enumerate(pop.get("X")):
            values = self.values(x)
            is_duplicate[index] = values in seen
            if other is None:
                seen.add(values)
        return is_duplicate


def search(env: gym.Env, settings: Settings) -> None:
    """Evolve ``settings.episodes`` strategies on an environment with continuous actions.

    Raises:
        UserError: the environment has discrete actions.
    """
    require_actions(env, gym.spaces.Box, "nsga2")
    ours = problem_of(env)
    problem = Problem(n_var=len(ours.space), n_obj=len(ours.objectives), xl=-1.0, xu=1.0)
    unplayed = Unplayed(env)
    algorithm = NSGA2(POPULATION, eliminate_duplicates=unplayed)
    algorithm.setup(problem, seed=settings.seed, termination=NoTermination())
    rng = np.random.default_rng([settings.seed, 1])  # not the initial design's numbers again
    actions, left = (
        initial_design(settings.episodes, problem.n_var, settings.seed),
        settings.episodes,
    )
    while left:
        actions = actions[:left]
        left -= len(actions)
        returns, _ = play_all(env, actions)
        unplayed.played |= {unplayed.values(row) for row in actions}
        generation = Population.new(X=actions)
        Evaluator().eval(StaticProblem(problem, F=-returns), generation)
        algorithm.tell(infills=generation)
        offspring = algorithm.ask()
        if offspring is None:  # pymoo would end here: mating finds nothing that was not played
            algorithm.termination.force_termination = False
            actions = random_ratio(rng, problem.n_var)[None]
        else:
            actions = offspring.get("X")
