"""Agents by name: each one searches an environment for a number of episodes.

An agent is a function ``search(env, settings)`` in a file of its own; ``parts`` has what agents are
made of. ``env`` has a vector reward and records what is evaluated; the agent plays
``settings.episodes`` episodes on it. One's own need not be here: ``package.module:function`` names
it.
"""

from collections.abc import Callable
from importlib import import_module

import gymnasium as gym

from agents.parts.settings import Settings, Trained
from prune_gym.errors import unknown
from prune_gym.importing import find_function

__all__ = ["AGENTS", "Settings", "Trained", "find_agent", "takes_priorities"]

# name -> module with a function ``search``
AGENTS = {
    "abcp": "agents.abcp",
    "amc": "agents.amc",
    "emomc": "agents.emomc",
    "envelope-ddpg": "agents.imagining_ddpg",
    "envelope-ddpg-model-free": "agents.envelope_ddpg",
    "jcw": "agents.jcw",
    "nsga2": "agents.nsga2",
    "random": "agents.random",
    "random-ratio": "agents.random_ratio",
    "two-stage": "agents.two_stage",
    "uniform": "agents.uniform",
}
# family -> module with a function ``search_with(name)``, and an example; "sb3:SAC" is one of them
FAMILIES = {
    "optuna": ("agents.optuna_samplers", "optuna:tpe"),
    "sb3": ("agents.sb3", "sb3:SAC"),
    "sb3-conditioned": ("agents.sb3_conditioned", "sb3-conditioned:SAC"),
}
# Those that look at ``settings.priorities``; the others look for the whole front alike.
TAKE_PRIORITIES = (
    "abcp",
    "envelope-ddpg",
    "envelope-ddpg-model-free",
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
        ValueError: no such agent; of one's own, no such module or function.
        ImportError: the agent needs an extra; the message says which.
    """
    if _is_own(name):
        try:
            return find_function(name, "agent", "to be called with (env, settings)")
        except ValueError as error:
            families = ", ".join(f"{family}:NAME" for family in FAMILIES)
            raise ValueError(f"{error} (of this package: {families})") from error
    family, colon, member = name.partition(":")
    if colon:
        return import_module(FAMILIES[family][0]).search_with(member)
    if name not in AGENTS:
        examples = [example for _, example in FAMILIES.values()]
        raise ValueError(unknown("agent", name, [*AGENTS, *examples]))
    return import_module(AGENTS[name]).search
