"""Where an environment came from: what a strategy says, so that others can replay it."""

import os
from typing import Any

import gymnasium as gym

from envs_registry import ENTRY_POINT, GENERIC_ID, env_ids

REFERENCE_LATENCY = "reference-cpu"
OWN = ("network", "data")  # names, or the user's own objects
MACHINE = "device"  # who replays the strategy may have another one
# What `compression_env` takes where nothing is given, and the generic id does not.
DEFAULTS = {"network": "vgg16", "data": "digits", "latency": REFERENCE_LATENCY}


def source_of(env: gym.Env) -> tuple[str, dict[str, Any]]:
    """Return the id and the arguments with which ``gym.make`` makes an environment again."""
    if env.spec is None:
        return "", {}
    # The user's own module or data are no plain data; who replays the strategy gives them again.
    kwargs = {
        name: value
        for name, value in env.spec.kwargs.items()
        if name != MACHINE and (name not in OWN or isinstance(value, str | os.PathLike))
    }
    if env.spec.id in env_ids() or env.spec.entry_point != ENTRY_POINT:
        return env.spec.id, kwargs
    # An id of the user's own: who applies its strategies need not import what registers it.
    left_out = {name: value for name, value in DEFAULTS.items() if name not in env.spec.kwargs}
    return GENERIC_ID, {**left_out, **kwargs}
