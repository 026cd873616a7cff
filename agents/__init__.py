"""Agents by name: each one searches an environment for a number of episodes.

An agent is a function ``search(env, settings)`` in a file of its own. ``env`` has a vector reward
and records what is evaluated; the agent plays ``settings.episodes`` episodes on it.
"""

from collections.abc import Callable
from importlib import import_module

import gymnasium as gym

from agents.settings import Settings, Trained
from prune_gym.errors import unknown

__all__ = ["AGENTS", "Settings", "Trained", "find_agent"]

# name -> module with a function ``search``; "sb3:<class>" is handled by agents.sb3
AGENTS = {
    "envelope-ddpg": "agents.envelope_ddpg",
    "random": "agents.random",
    "random-ratio": "agents.random_ratio",
    "uniform": "agents.uniform",
}
SB3 = "sb3:"


def find_agent(name: str) -> Callable[[gym.Env, Settings], Trained | None]:
    """Return the search function of an agent by name.

    Raises:
        ValueError: no such agent.
    """
    if name.startswith(SB3):
        from agents.sb3 import search_with

        return search_with(name[len(SB3) :])
    if name not in AGENTS:
        raise ValueError(unknown("agent", name, [*AGENTS, "sb3:SAC", "sb3:PPO"]))
    return import_module(AGENTS[name]).search
