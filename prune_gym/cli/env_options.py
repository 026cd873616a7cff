"""Options for the arguments of an environment: those of ``train`` and of ``benchmark``."""

import argparse
import inspect
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from prune_gym.cli.values import setting, share
from prune_gym.errors import UserError, unknown

NO_TABLE = "none"


def add_env_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for every argument of an environment."""
    add = parser.add_argument
    add("--budget", type=share, action="append", metavar="COST=SHARE", help="repeatable; or 50%%")
    add("--objectives", type=_names, metavar="NAME,...")
    add(
        "--network", help="start from this instead: a file of `prune-gym apply`, or module:function"
    )
    add(
        "--data",
        help="a data set's name, or module:function; ChannelPrune-v0 needs this and --network",
    )
    add("--library", metavar="FOLDER", help="of `prune-gym library`, for PruneQuantize ids")
    add("--latency", metavar="TABLE", help="a shipped table, a file, measured, or none")
    add("--device", help="where networks run: auto, cpu, cuda or mps (default: auto)")
    add("--exclude", type=_names, metavar="PATTERN,...", help="layers that stay as they are")
    add("--include", type=_names, metavar="PATTERN,...", help="the layers that may change")
    add(
        "--set",
        type=setting,
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="any other argument of the environment, such as min_keep=0.25; repeatable",
    )


def env_kwargs(options: argparse.Namespace, env_ids: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of the environments that the options give, as plain data.

    Raises:
        UserError: an argument is given twice, or an environment takes none of this name or type.
    """
    costs = [name for name, _ in options.budget or ()]
    if len(set(costs)) < len(costs):
        raise UserError(f"expected one --budget per cost, got {', '.join(costs)}")
    given: dict[str, Any] = {
        "objectives": list(options.objectives) if options.objectives else None,
        "exclude": list(options.exclude) if options.exclude else None,
        "include": list(options.include) if options.include else None,
        "network": options.network,
        "data": options.data,
        "library": options.library,
        "latency": options.latency,
        "device": options.device,
        "budgets": dict(options.budget) if options.budget else None,
    }
    found = {name: value for name, value in given.items() if value}
    if found.get("latency") == NO_TABLE:
        found["latency"] = None
    for name, value in options.set:
        if name in found:
            raise UserError(f"--set {name}: expected this argument once, got it twice")
        found[name] = value
    if options.set:
        for env_id in env_ids:
            _check(dict(options.set), env_id)
    return found


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _check(given: Mapping[str, Any], env_id: str) -> None:
    """Compare arguments with those that an environment takes."""
    taken = _parameters(env_id)
    for name, value in given.items():
        if name not in taken:
            raise UserError(f"--set: {unknown(f'argument of {env_id}', name, taken)}")
        annotation = taken[name].annotation
        if annotation is not inspect.Parameter.empty and not _fits(value, annotation):
            raise UserError(
                f"--set {name}: expected {_in_words(annotation)}, got {value!r}; values are JSON, "
                f"and a bare word is a string"
            )


def _parameters(env_id: str) -> dict[str, inspect.Parameter]:
    """Return the arguments that ``gym.make`` takes for an id, by name."""
    import gymnasium as gym
    from gymnasium.envs.registration import load_env_creator

    from prune_gym.envs.make import compression_env, compression_problem

    creator: Any = gym.spec(env_id.rpartition(":")[2]).entry_point
    if isinstance(creator, str):
        creator = load_env_creator(creator)
    found: dict[str, inspect.Parameter] = {}
    for function in (creator, compression_env, compression_problem):  # each passes on to the next
        parameters = inspect.signature(function, eval_str=True).parameters.values()
        passes_on = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
        variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        found |= {p.name: p for p in parameters if p.kind not in variable and p.name not in found}
        if not passes_on:
            break
    return found


def _fits(value: Any, annotation: Any) -> bool:
    """Return whether a value out of JSON is of an annotated type."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if annotation is Any:
        return True
    if annotation in (None, NoneType):
        return value is None
    if isinstance(value, bool):
        return annotation is bool
    if annotation is float:
        return isinstance(value, int | float)
    if annotation in (int, str):
        return isinstance(value, annotation)
    if isinstance(value, list):
        of = inner[0] if inner else Any
        return isinstance(origin, type) and issubclass(origin, Sequence) and _all_fit(value, of)
    if isinstance(value, dict):
        of = inner[1] if inner else Any
        mapping = isinstance(origin, type) and issubclass(origin, Mapping)
        return mapping and _all_fit(value.values(), of)
    return False


def _all_fit(values: Any, annotation: Any) -> bool:
    return all(_fits(value, annotation) for value in values)


def _in_words(annotation: Any) -> str:
    """Return the JSON of an annotated type in words: "a number or null"."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(filter(None, map(_in_words, inner))))
    names = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
    if annotation in (None, NoneType):
        return "null"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return 'an object such as {"flops": 0.5}'
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return 'a list such as ["a", "b"]' if inner == (str,) else "a list such as [2, 4, 8]"
    return names.get(annotation, "")
