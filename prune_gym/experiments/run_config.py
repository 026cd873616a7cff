"""The configuration of a run: what ``config.json`` in its folder holds."""

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prune_gym import __version__
from prune_gym._utils.json_file import read_json
from prune_gym.errors import UserError
from prune_gym.search_space.strategy import finite_number

REQUIRED = ("env", "env_kwargs", "agent", "episodes", "seed", "preference")
MOST_THREADS = 1024  # more would exhaust the machine of who opens somebody's run
OPTIONAL = ("threads", "start")  # written only where they are set
# Older runs did not record it; what they were made with is not known.
NOT_ALWAYS_RECORDED = ("threads",)


@dataclass(frozen=True)
class RunConfig:
    """What determines a run: the same configuration gives the same search.

    Attributes:
        env: environment id; "" for an environment that was made by hand.
        agent: name of the agent.
        episodes: strategies to evaluate.
        seed: of all randomness.
        env_kwargs: arguments of the environment beside its id, as plain data.
        preference: weight by objective, None for the balanced one.
        version: of this package.
        threads: number of threads that every accuracy is computed with, in whatever process; None
            leaves it to the process.
        start: digest of what a second stage starts from, None for a run that starts by itself.
    """

    env: str
    agent: str
    episodes: int
    seed: int
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    preference: Mapping[str, float] | None = None
    version: str = __version__
    threads: int | None = None
    start: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        names = [*REQUIRED, "version", *(n for n in OPTIONAL if getattr(self, n) is not None)]
        return json.loads(json.dumps({name: getattr(self, name) for name in names}))

    def differences(self, recorded: Mapping[str, Any]) -> list[str]:
        """Return what differs from the recorded ``config.json``: ``"seed 1 -> 2"``."""
        now = self.as_dict()
        names = [
            name
            for name in sorted(recorded.keys() | now.keys())
            if recorded.get(name) != now.get(name)
            and not (name in NOT_ALWAYS_RECORDED and None in (recorded.get(name), now.get(name)))
        ]
        return [f"{name} {recorded.get(name)!r} -> {now.get(name)!r}" for name in names]


def config_from_dict(content: Any, source: Path) -> RunConfig:
    """Check plain data and return the configuration; ``source`` is named in messages.

    Raises:
        UserError: something is missing or of the wrong type.
    """
    if not isinstance(content, dict):
        raise UserError(f"{source} is damaged: expected an object, got {type(content).__name__}")
    if missing := [name for name in REQUIRED if name not in content]:
        raise UserError(f"{source} is damaged: it lacks {', '.join(missing)}")
    types: dict[str, tuple[type, ...]] = {
        "env": (str,),
        "agent": (str,),
        "episodes": (int,),
        "seed": (int,),
        "env_kwargs": (dict,),
        "preference": (dict, type(None)),
        "version": (str,),
        "threads": (int, type(None)),
        "start": (str, type(None)),
    }
    found = {name: content[name] for name in types if name in content}
    for name, value in found.items():
        if not isinstance(value, types[name]) or isinstance(value, bool):
            raise UserError(f"{source} is damaged: {name} is {reprlib.repr(value)}")
    threads = found.get("threads")
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise UserError(f"{source} is damaged: threads is {reprlib.repr(threads)}")
    for name, weight in (content["preference"] or {}).items():
        try:
            finite_number(weight)
        except UserError as error:
            raise UserError(f"{source} is damaged: preference for {name!r}: {error}") from error
    return RunConfig(**{"version": "", **found})


def read_config(path: Path) -> RunConfig:
    """Read a ``config.json``.

    Raises:
        UserError: it is damaged.
    """
    return config_from_dict(read_json(path), path)
