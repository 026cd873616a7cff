"""A strategy: all decisions of one episode, in a small JSON file that anyone can replay."""

import copy
import json
import math
import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prune_gym._utils.formatting import format_metric
from prune_gym._utils.html import html_table
from prune_gym._utils.json_file import read_json
from prune_gym._utils.paths import is_file, write_atomically
from prune_gym.errors import MissingFileError, UserError, UserTypeError

FORMAT = "prune-gym-strategy-2"


@dataclass(frozen=True, repr=False)
class Strategy:
    """The decisions of one episode, the environment they are of, and what was measured.

    ``env.apply(strategy)`` makes its network, ``env.validate(strategy)`` measures it again;
    ``prune-gym apply``, ``validate``, ``finetune``, ``export`` and ``measure`` take its file.

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
        """The value of every decision: (kind, name) -> value."""
        return {(each["kind"], each["name"]): each["value"] for each in self.decisions}

    def is_of(self, weights: str) -> bool:
        """Return whether it was found on the weights of this checksum, as far as is known."""
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

    def __repr__(self) -> str:
        """Return one line: the environment, how many decisions, and the metrics."""
        return f"<Strategy of {self._summary()}>"

    def _repr_html_(self) -> str:
        """Return a table of the decisions, for notebooks."""
        rows = (
            (each["kind"], each["name"], f"{each['value']:.4g}", f"{each['of']:.4g}")
            for each in self.decisions
        )
        return html_table(self._summary(), ("kind", "name", "value", "of"), rows)

    def _summary(self) -> str:
        metrics = ", ".join(
            f"{name} {format_metric(value, name)}" for name, value in self.metrics.items()
        )
        env = self.env_id or "an unregistered environment"
        return f"{env}: {len(self.decisions)} decisions; {metrics}"

    def save(self, path: str | Path) -> None:
        """Write the JSON file; `load_strategy` reads it."""
        write_atomically(Path(path), (json.dumps(self.as_dict(), indent=2) + "\n").encode())


def _plain(value: Any) -> Any:
    """Return arguments as JSON gives them back: what is recorded equals what is read."""
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
        raise UserError(f"{source}: expected format {FORMAT!r}, got {reprlib.repr(found)}")
    try:
        decisions = tuple(
            {
                "kind": _text(d["kind"]),
                "name": _text(d["name"]),
                "value": finite_number(d["value"]),
                "of": finite_number(d["of"]),
            }
            for d in content["decisions"]
        )
        strategy = Strategy(
            env_id=_text(content["env_id"]),
            env_kwargs={_text(name): value for name, value in content["env_kwargs"].items()},
            decisions=decisions,
            metrics={
                _text(name): float(finite_number(value))
                for name, value in content["metrics"].items()
            },
            weights=_text(content.get("weights", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{source}: a strategy has env_id, env_kwargs, decisions (kind, name, value, of) and "
            f"metrics; this one is damaged: {_in_words(error)}"
        ) from error
    if len(strategy.values) < len(decisions):
        raise UserError(f"{source}: expected one decision per kind and name, got some twice")
    return strategy


def _in_words(error: Exception) -> str:
    """Return what is wrong with the content, without names of Python's."""
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]!r}"
    return str(error) if isinstance(error, UserError) else "a part of it is of another kind"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise UserTypeError(f"{reprlib.repr(value)} is not a text")
    return value


def finite_number(value: Any) -> float:
    """Return a finite number as it came, whole or not."""
    try:
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        finite = number and math.isfinite(value)
    except (TypeError, OverflowError):  # a complex number, and one of hundreds of digits
        finite = False
    if not finite:
        raise UserTypeError(f"{reprlib.repr(value)} is not a finite number")
    return value


def load_strategy(path: str | Path) -> Strategy:
    """Read a strategy's file, such as ``runs/mine/front/004.json``.

    The file may be anybody's: it is checked, and nothing in it is run.

    Raises:
        MissingFileError: no such file.
        UserError: not a strategy; says what is wrong.

    Example:
        >>> strategy = load_strategy("runs/mine/front/004.json")  # doctest: +SKIP
        >>> strategy.metrics["accuracy"]  # doctest: +SKIP
        0.975
        >>> strategy.values["channels", "features.0"]  # doctest: +SKIP
        24
    """
    path = Path(path)
    if not is_file(path):
        raise MissingFileError(f"{path}: no such strategy file; a run writes them to front/")
    return strategy_from_dict(read_json(path), str(path))
