"""A strategy: all decisions of one episode, as a small JSON that anyone can replay."""

import copy
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prune_gym._utils.paths import write_atomically
from prune_gym.errors import MissingFileError, UserError, UserTypeError

FORMAT = "prune-gym-strategy-2"


@dataclass(frozen=True)
class Strategy:
    """The decisions and what they were measured at.

    Attributes:
        env_id: the registered environment, "" for one made by hand.
        env_kwargs: the arguments it was made with beside its defaults (budgets, objectives, ...).
        decisions: a dict each with ``kind``, ``name`` (of the channel group, layer or block),
            ``value`` and ``of`` (the original's value).
        metrics: natural values: accuracy (search split), flops, params, latency_ms, memory_bytes.
        weights: checksum of the original network's weights; "" where it was not recorded.
    """

    env_id: str
    env_kwargs: dict[str, Any]
    decisions: tuple[dict[str, Any], ...]
    metrics: dict[str, float]
    weights: str = ""
    format: str = field(default=FORMAT)

    @property
    def values(self) -> dict[tuple[str, str], float]:
        """The value of every decision by its kind and name."""
        return {(each["kind"], each["name"]): each["value"] for each in self.decisions}

    def is_of(self, weights: str) -> bool:
        """Return whether it was, as far as is known, found on the weights of this checksum."""
        return self.weights in ("", weights)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, as it stands in ``info["strategy"]`` and in the file."""
        return {
            "format": self.format,
            "env_id": self.env_id,
            "env_kwargs": _plain(self.env_kwargs),
            "decisions": [dict(decision) for decision in self.decisions],
            "metrics": dict(self.metrics),
            "weights": self.weights,
        }

    def save(self, path: Path) -> None:
        """Write the JSON atomically."""
        write_atomically(Path(path), (json.dumps(self.as_dict(), indent=2) + "\n").encode())


def _plain(value: Any) -> Any:
    """Return arguments as they come back from JSON: what is recorded equals what is found."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list | range | np.ndarray):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else copy.deepcopy(value)


def strategy_from_dict(content: Any, source: str = "strategy") -> Strategy:
    """Check plain data and return the strategy.

    Raises:
        UserError: not a strategy; says what is missing or wrong.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{source}: expected format {FORMAT!r}, got {found!r}")
    try:
        decisions = tuple(
            {
                "kind": str(d["kind"]),
                "name": str(d["name"]),
                "value": _number(d["value"]),
                "of": _number(d["of"]),
            }
            for d in content["decisions"]
        )
        metrics = {str(name): float(value) for name, value in content["metrics"].items()}
        named, weights = dict(content["env_kwargs"]), str(content.get("weights", ""))
        return Strategy(str(content["env_id"]), named, decisions, metrics, weights)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{source}: a strategy has env_id, env_kwargs, decisions (kind, name, value, of) and "
            f"metrics; this one is damaged at {error!r}"
        ) from error


def _number(value: Any) -> float:
    """Return a finite number as it came, whole or not."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserTypeError(f"{value!r} is not a finite number")
    return value


def load_strategy(path: str | Path) -> Strategy:
    """Read a strategy's JSON.

    Raises:
        MissingFileError: no such file.
        UserError: not a strategy; says what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such strategy file; a run writes them to front/")
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error})") from error
    return strategy_from_dict(content, str(path))
