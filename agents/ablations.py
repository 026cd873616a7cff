"""The main agent and ``ehvi`` with one part switched off, to measure what the part is worth."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym

from prune_gym.agents.bayesian import ehvi
from prune_gym.agents.common.api import Settings, Trained
from prune_gym.agents.ehvi_envelope_ddpg import ehvi_envelope_ddpg
from prune_gym.errors import UserError, unknown

# name -> what the main agent is made with
PARTS: dict[str, dict[str, Any]] = {
    "no-learning": {"gradient_steps": 0},
    "no-envelope": {"envelope": 0},
    "no-relabeling": {"relabelled": 0},
    "no-homotopy": {"homotopy": False},
    "no-imagined-rollouts": {"imagined": False},
    "no-prior": {"sensitivities": False},
    "no-planned-start": {"planned_start": False},
}
SEARCHES: dict[str, Callable[[gym.Env, Settings], Trained | None]] = {
    name: partial(ehvi_envelope_ddpg.search, **given) for name, given in PARTS.items()
} | {"ehvi-no-sensitivities": partial(ehvi.search, sensitivities=False)}


def search_with(name: str) -> Callable[[gym.Env, Settings], Trained | None]:
    """Return the search function of an ablation by its name.

    Raises:
        UserError: no such ablation.
    """
    if name not in SEARCHES:
        raise UserError(unknown("ablation", name, SEARCHES))
    return SEARCHES[name]
