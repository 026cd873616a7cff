"""Evolution of whole strategies: what JCW's and EMOMC's searchers have in common.

A genome is one action per decision, each exactly that of an option. Children come
from two parents by simulated binary crossover (Deb & Agrawal 1995) and polynomial mutation (Deb &
Goyal 1996), with the parameters of JCW's code, are moved to the grid, and are not evaluated where
the same genome was before.
"""

from collections.abc import Callable

import gymnasium as gym
import numpy as np

from prune_gym.agents.common.action_spaces import require_actions
from prune_gym.agents.common.api import Settings, problem_of
from prune_gym.agents.common.initial_design import initial_design, random_ratio
from prune_gym.agents.common.rollout import play_all
from prune_gym.search_space import SearchSpace

POPULATION = 20  # JCW's 64 in 128 generations are 8,192 evaluations; a run here has hundreds
CROSSOVER, MUTATION = 0.5, 15.0  # how near children are to their parents (eta)
CROSSED = 0.5  # probability per gene
TRIES = 16  # to find children that are new
# Returns (n, k) and how many survive -> the survivors' indices.
Selection = Callable[[np.ndarray, int], np.ndarray]


def evolve(
    env: gym.Env,
    settings: Settings,
    select: Selection,
    agent: str,
    space: SearchSpace | None = None,
) -> None:
    """Play ``settings.episodes`` episodes: the initial design, then generation after generation.

    ``space`` has the environment's decisions with some of their options; None: all of them.

    Raises:
        UserError: the environment has discrete actions.
    """
    require_actions(env, gym.spaces.Box, agent)
    space = space or problem_of(env).space
    rng = np.random.default_rng([settings.seed, 1])  # not the initial design's numbers again
    genomes = snap(space, initial_design(settings.episodes, len(space), settings.seed))
    known, returns = _evaluate(env, space, genomes, settings.seed)
    alive = np.arange(len(known))
    while left := settings.episodes - len(known):
        alive = alive[select(returns[alive], POPULATION)]
        children = offspring(known[alive], min(POPULATION, left), known, space, rng)
        new, their_returns = _evaluate(env, space, children)
        alive = np.append(alive, np.arange(len(known), len(known) + len(new)))
        known, returns = np.concatenate([known, new]), np.concatenate([returns, their_returns])


def snap(space: SearchSpace, actions: np.ndarray) -> np.ndarray:
    """Return the genomes nearest to actions ``(n, decisions)``, in the same shape."""
    return space.encode(space.decode(actions))


def _evaluate(
    env: gym.Env, space: SearchSpace, genomes: np.ndarray, seed: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Play genomes; return those of what was played, ``(n, decisions)``, and their returns (n, k).

    Budgets may have moved genes; those of decisions in skipped blocks stay as they are.
    """
    problem = problem_of(env)
    returns, infos = play_all(env, problem.space.encode(space.decode(genomes)), seed)
    values = np.array([problem.values_of(info["strategy"]) for info in infos])
    active = np.array([space.active(row) for row in values])
    return np.where(active, space.encode(values), genomes), returns


def offspring(
    parents: np.ndarray, count: int, known: np.ndarray, space: SearchSpace, rng: np.random.Generator
) -> np.ndarray:
    """Return ``count`` children, genomes ``(count, decisions)``.

    They are unlike each other and unlike ``known``, unless so many new ones cannot be found.
    """
    seen = {genome.tobytes() for genome in known}
    found: list[np.ndarray] = []

    def mated() -> np.ndarray:
        return mutate(cross(parents, rng), rng)

    def drawn() -> np.ndarray:
        return np.array([random_ratio(rng, parents.shape[1]) for _ in range(count)])

    for make in [mated] * TRIES + [drawn] * TRIES:  # few parents have few children
        for child in snap(space, make()):
            if child.tobytes() not in seen:
                seen.add(child.tobytes())
                found.append(child)
        if len(found) >= count:
            return np.array(found[:count])
    more = rng.choice(known, count - len(found))
    return np.array([*found, *more])


def cross(parents: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a child of every parent and a random mate, by simulated binary crossover."""
    mates = rng.choice(parents, len(parents))
    u = rng.random(parents.shape)
    inside = np.where(u <= 0.5, 2 * u, 0.5 / (1 - u))
    nearer = rng.choice([-1.0, 1.0], parents.shape)  # to the mate, to the parent
    spread = nearer * inside ** (1 / (CROSSOVER + 1))
    crossed = ((1 + spread) * parents + (1 - spread) * mates) / 2
    children = np.where(rng.random(parents.shape) < CROSSED, crossed, parents)
    return np.clip(children, -1.0, 1.0)


def mutate(genomes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return genomes after polynomial mutation: one gene of each, on average."""
    u = rng.random(genomes.shape)
    power = 1 / (MUTATION + 1)
    shift = np.where(u < 0.5, (2 * u) ** power - 1, 1 - (2 * (1 - u)) ** power)
    hit = rng.random(genomes.shape) < 1 / genomes.shape[1]
    return np.clip(genomes + 2.0 * shift * hit, -1.0, 1.0)
