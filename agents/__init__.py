"""Agents by name: each one searches an environment for a number of episodes.

An agent is a function ``search(env, settings)``; ``common`` has what several agents are made of.
``env`` has a vector reward and records what is evaluated; the agent plays ``settings.episodes``
episodes on it. One's own need not be here: ``package.module:function`` names it.
"""

from collections.abc import Callable
from importlib import import_module

import gymnasium as gym

from prune_gym._utils.plugins import find_function
from prune_gym.agents.common.api import Settings, Trained
from prune_gym.errors import UserError, unknown

__all__ = ["AGENTS", "Settings", "Trained", "find_agent", "takes_priorities"]

# name -> module, and the function in it that searches
AGENTS = {
    "abcp": "prune_gym.agents.abcp.abcp:search",
    "amc": "prune_gym.agents.amc:search",
    "ehvi": "prune_gym.agents.bayesian.ehvi:search",
    "ehvi-envelope-ddpg": "prune_gym.agents.ehvi_envelope_ddpg.ehvi_envelope_ddpg:search",
    "emomc": "prune_gym.agents.evolution.emomc:search",
    "envelope-ddpg": "prune_gym.agents.envelope_ddpg.envelope_ddpg:search",
    "jcw": "prune_gym.agents.evolution.jcw:search",
    "nsga2": "prune_gym.agents.evolution.nsga2:search",
    "random": "prune_gym.agents.baselines:random",
    "random-ratio": "prune_gym.agents.baselines:random_ratio",
    "sensitivity": "prune_gym.agents.sensitivity.sensitivity:search",
    "two-stage": "prune_gym.agents.two_stage:search",
    "uniform": "prune_gym.agents.baselines:uniform",
}
# family -> module with a function ``search_with(name)``, and an example; "sb3:SAC" is one of them
FAMILIES = {
    "ablation": ("prune_gym.agents.ablations", "ablation:no-learning"),
    "amc": ("prune_gym.agents.amc", "amc:flops"),
    "botorch": ("prune_gym.agents.botorch_search", "botorch:qlognehvi"),
    "ehvi-envelope-ddpg": (
        "prune_gym.agents.ehvi_envelope_ddpg.ehvi_envelope_ddpg",
        "ehvi-envelope-ddpg:tchebycheff",
    ),
    "jcw": ("prune_gym.agents.evolution.jcw", "jcw:bounds"),
    "morl": ("prune_gym.agents.morl", "morl:CAPQL"),
    "optuna": ("prune_gym.agents.optuna_samplers", "optuna:tpe"),
    "sb3": ("prune_gym.agents.sb3", "sb3:SAC"),
    "sb3-conditioned": ("prune_gym.agents.sb3_conditioned", "sb3-conditioned:SAC"),
}
# Those that look at ``settings.priorities``; the others look for the whole front alike.
TAKE_PRIORITIES = (
    "ablation",
    "abcp",
    "ehvi-envelope-ddpg",
    "envelope-ddpg",
    "sb3",
    "sb3-conditioned",
    "two-stage",
)


def takes_priorities(name: str) -> bool:
    """Return whether priorities of objectives may make a difference to an agent."""
    return name.partition(":")[0] in TAKE_PRIORITIES or _is_own(name)


def _is_own(name: str) -> bool:
    family, colon, _ = name.partition(":")
    return bool(colon) and family not in FAMILIES


def find_agent(name: str) -> Callable[[gym.Env, Settings], Trained | None]:
    """Return the search function of an agent by name: of those here, or ``module:function``.

    Raises:
        UserError: no such agent; or no such module or function of the user's own.
        MissingExtraError: the agent needs an extra; the message says which.
    """
    if _is_own(name):
        try:
            return find_function(name, "agent", "to be called with (env, settings)")
        except ValueError as error:
            families = ", ".join(f"{family}:NAME" for family in FAMILIES)
            raise UserError(f"{error} (of this package: {families})") from error
    family, colon, member = name.partition(":")
    if colon:
        return import_module(FAMILIES[family][0]).search_with(member)
    if name not in AGENTS:
        examples = [example for _, example in FAMILIES.values()]
        raise UserError(unknown("agent", name, [*AGENTS, *examples]))
    module, _, function = AGENTS[name].partition(":")
    return getattr(import_module(module), function)
