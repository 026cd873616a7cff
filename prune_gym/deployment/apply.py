"""From a strategy to a pruned network on disk, with what it gained and lost."""

from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
from rich.console import Console
from torch import nn

from envs_registry import env_ids
from prune_gym.compression.network_file import save_network
from prune_gym.deployment.comparison import comparison
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.errors import UserError, unknown
from prune_gym.search_space.strategy import Strategy, load_strategy

DEFAULTS = {"network": "vgg16", "data": "digits"}  # the environment's own


def environment_of(strategy: Strategy) -> CompressionEnv:
    """Return the environment that a strategy was found in, where that is as it was then.

    Raises:
        UserError: as of `environment_named`; or the strategy was found on other weights, or comes
            to other counts there.
    """
    env = environment_named(strategy)
    _check_network(strategy, env)
    return env


def environment_named(strategy: Strategy) -> CompressionEnv:
    """Return the environment that a strategy names.

    Raises:
        UserError: its id is not registered, or its arguments are not the environment's.
    """
    if strategy.env_id not in env_ids():
        raise UserError(
            unknown("environment", strategy.env_id, env_ids())
            + "; a strategy of an environment of your own is applied with env.problem.apply(strategy)"
        )
    try:
        return cast(CompressionEnv, gym.make(strategy.env_id, **strategy.env_kwargs).unwrapped)
    except TypeError as error:
        raise UserError(
            f"the strategy's env_kwargs do not fit {strategy.env_id}: {error}"
        ) from error


def _check_network(strategy: Strategy, env: CompressionEnv) -> None:
    """Refuse a strategy whose network, a file that was written anew, say, is another one now."""
    network, configuration = (
        strategy.env_kwargs.get("network", "its network"),
        env.problem.configure(strategy),
    )
    for name in ("flops", "params"):
        then, now = strategy.metrics.get(name), float(env.problem.costs[name](configuration)[0])
        if then is not None and not np.isclose(then, now, rtol=1e-6):
            raise UserError(
                f"the strategy was found at {then:,.0f} {name} and comes to {now:,.0f} now: "
                f"{network} is not what it was then; search again"
            )
    weights = env.problem.evaluator.checksum
    if not strategy.is_of(weights):
        raise UserError(
            f"the strategy was found on other weights (checksum {strategy.weights[:8]}, now "
            f"{weights[:8]}): {network} is not what it was then; `prune-gym validate` says what "
            "the strategy comes to now, and a new search finds others"
        )


def described(strategy: Strategy, env: CompressionEnv) -> dict[str, Any]:
    """Return what a file says of a strategy's network: the arguments of `save_network`."""
    named = {**DEFAULTS, **gym.spec(strategy.env_id).kwargs, **strategy.env_kwargs}
    return {
        "name": named["network"],
        "num_classes": env.problem.evaluator.data.num_classes,
        "configuration": env.problem.configure(strategy),
        "input_shape": env.problem.evaluator.data.search.images.shape[1:],
        "data": named["data"],
    }


def save_of(strategy: Strategy, env: CompressionEnv, network: nn.Module, out: Path) -> None:
    """Write a network of the strategy's shape, whatever its weights, to ``out``."""
    save_network(network, out, **described(strategy, env))


def apply(strategy_file: Path, out: Path, console: Console) -> None:
    """Write the pruned network of a strategy to ``out`` and print before and after.

    Raises:
        MissingFileError: no such strategy.
        UserError: not a strategy, or one of another network.
    """
    strategy = load_strategy(strategy_file)
    env = environment_of(strategy)
    evaluator, configuration, network = (
        env.problem.evaluator,
        env.problem.configure(strategy),
        env.problem.apply(strategy),
    )
    save_of(strategy, env, network, out)
    test, full = evaluator.data.test, env.problem.original_configuration
    before, after = (
        {cost.metric: float(cost(each)[0]) for cost in env.problem.costs.values()}
        for each in (full, configuration)
    )
    columns = {
        "before": before | {"accuracy": evaluator.original_score(test)},
        "after": after | {"accuracy": evaluator.score(network, test)},
    }
    labels = {"accuracy": f"{evaluator.data.metric_name}, test split"}
    console.print(comparison(f"{strategy.env_id}, no retraining", columns, labels))
    console.print(f"Wrote {out} ({out.stat().st_size / 1e6:.2f} MB)", highlight=False)
    console.print(
        f'Load it with: prune_gym.compression.network_file.load_network("{out}")',
        highlight=False,
        soft_wrap=True,
    )
