"""JCW: evolution whose survivors are spread over the whole range of latencies.

After "Joint Channel and Weight Pruning for Model Acceleration on Mobile Devices" (arXiv
2110.08013, ECCV 2022): NSGA-II whose selection sorts the strategies once for each of four reference
latencies (`prune_gym.agents.evolution.survival.UniformSelection`), so that a population does
not gather in one region. ``jcw:bounds`` searches within the bounds of the published code
(`prune_gym.agents.evolution.jcw_bounds`). docs/jcw.md has the departures.
"""

from collections.abc import Callable

import gymnasium as gym

from prune_gym.agents.common.api import Settings, problem_of
from prune_gym.agents.evolution.jcw_bounds import bounded_space
from prune_gym.agents.evolution.operators import evolve
from prune_gym.agents.evolution.survival import UniformSelection
from prune_gym.errors import UserError, unknown
from prune_gym.search_space import SearchSpace


def search_with(name: str) -> Callable[[gym.Env, Settings], None]:
    """Return the search function of a variant: "bounds".

    Raises:
        UserError: no such variant.
    """
    if name != "bounds":
        raise UserError(unknown("variant of jcw", name, ["bounds"]))
    return lambda env, settings: search(env, settings, bounded_space(problem_of(env)))


def search(env: gym.Env, settings: Settings, space: SearchSpace | None = None) -> None:
    """Play ``settings.episodes`` episodes on an environment with continuous actions.

    The cost whose range is covered is latency, or the first one where latency is no objective.
    ``space`` has the environment's decisions with some of their options; None: all of them.

    Raises:
        UserError: no cost among the objectives, or discrete actions.
    """
    names = [o.name for o in problem_of(env).objectives]
    costs = sorted((name for name in names if name != "accuracy"), key=lambda n: n != "latency")
    if not costs:
        raise UserError(
            f"jcw spreads its strategies over the range of a cost; the objectives are {names}: "
            "add one, such as latency"
        )
    evolve(env, settings, UniformSelection(names.index(costs[0])), "jcw", space)
