"""Replay strategies: the environment that a strategy was found in, and its network's file."""

from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
from torch import nn

from envs_registry import env_ids
from prune_gym._utils.plugins import not_called
from prune_gym.compression.network_file import (
    function_in,
    is_network_file,
    network_path,
    save_network,
)
from prune_gym.envs.arguments import check_arguments
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.errors import UserError, unknown
from prune_gym.graph.inputs import shape_of
from prune_gym.search_space.strategy import Strategy

DEFAULTS = {"network": "vgg16", "data": "digits"}  # the environment's own


def environment_of(
    strategy: Strategy,
    network: str | None = None,
    data: str | None = None,
    device: str = "auto",
) -> CompressionEnv:
    """Return the environment that a strategy was found in, if it has not changed since.

    Arguments are those of `environment_named`.

    Raises:
        UserError: as of `environment_named`; or the strategy was found on other weights, or has
            other counts there.
    """
    env = environment_named(strategy, network, data, device)
    _check_network(strategy, env)
    return env


def environment_named(
    strategy: Strategy,
    network: str | None = None,
    data: str | None = None,
    device: str = "auto",
) -> CompressionEnv:
    """Return the environment that a strategy names.

    A strategy may be anybody's file, so a function that it names is not called: where it
    names one, the caller names it again.

    Args:
        strategy: what ``load_strategy`` returned.
        network: takes the place of the network that the strategy names; None: that one.
        data: takes the place of the data that the strategy names; None: those.
        device: where networks run, "auto", "cpu", "cuda" or "mps".

    Raises:
        UserError: its id is not registered, or its arguments are not the environment's; it names a
            function, and no other network (or data) was given.
    """
    if strategy.env_id not in env_ids():
        raise UserError(
            unknown("environment", strategy.env_id, env_ids())
            + "; apply a strategy of an environment of your own with env.problem.apply(strategy)"
        )
    kwargs = _replaced(check_arguments(strategy.env_kwargs), network, data)
    if device != "auto":  # an environment of the user's own need not know devices
        kwargs["device"] = device
    try:
        return cast(CompressionEnv, gym.make(strategy.env_id, **kwargs).unwrapped)
    except TypeError as error:
        raise UserError(
            f"the strategy's env_kwargs do not fit {strategy.env_id}: {error}"
        ) from error


def _replaced(kwargs: dict[str, Any], network: str | None, data: str | None) -> dict[str, Any]:
    """Return a strategy's arguments with what the caller names, and no other function."""
    named = kwargs.get("network", "")
    if network is None and function_in(named):
        raise not_called("the strategy", named, "network")
    if data is None and ":" in kwargs.get("data", ""):
        raise not_called("the strategy", kwargs["data"], "data")
    if network is not None:
        # A function alone is that of the original of the file that the strategy names.
        joined = is_network_file(named) and function_in(network) == network
        kwargs["network"] = f"{network}@{network_path(named)}" if joined else network
    if data is not None:
        kwargs["data"] = data
    return kwargs


def _check_network(strategy: Strategy, env: CompressionEnv) -> None:
    """Refuse a strategy whose network has changed: its file was written again."""
    network, configuration = (
        strategy.env_kwargs.get("network", "its network"),
        env.problem.configure(strategy),
    )
    for name in ("flops", "params"):
        then, now = strategy.metrics.get(name), float(env.problem.costs[name](configuration)[0])
        if then is not None and not np.isclose(then, now, rtol=1e-6):
            raise UserError(
                f"the strategy was found at {then:,.0f} {name} and has {now:,.0f} now: "
                f"{network} is not what it was then; search again"
            )
    weights = env.problem.evaluator.checksum
    if not strategy.is_of(weights):
        raise UserError(
            f"the strategy was found on other weights (checksum {strategy.weights[:8]}, now "
            f"{weights[:8]}): {network} is not what it was then; `prune-gym validate` says what "
            "the strategy is worth now, and a new search finds others"
        )


def described(strategy: Strategy, env: CompressionEnv) -> dict[str, Any]:
    """Return the arguments of `save_network` for a strategy's network."""
    assert env.spec is not None
    named = {**DEFAULTS, **env.spec.kwargs}
    return {
        "name": named["network"],
        "num_classes": env.problem.evaluator.data.num_classes,
        "configuration": env.problem.configure(strategy),
        "input_shape": shape_of(env.problem.evaluator.data.search.images),
        "data": named["data"],
    }


def save_of(strategy: Strategy, env: CompressionEnv, network: nn.Module, out: Path) -> None:
    """Write a network of the strategy's shape, whatever its weights, to ``out``."""
    save_network(network, out, **described(strategy, env))
