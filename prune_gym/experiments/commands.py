"""Command lines for people: the one of a run, and what to do with a strategy."""

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prune_gym.experiments.results import Results

# Arguments of the environment that have an option of their own; the others are given by --set.
NAMED = ("network", "data", "library", "latency")


def shell_line(words: Iterable[str]) -> str:
    """Return words as one line for a shell, quoted where they need it.

    A character that a terminal takes for a key (a newline ends the command) is written as an
    escape sequence, in the ``$'...'`` of bash and zsh.
    """
    return " ".join(shlex.quote(word) if word.isprintable() else _escaped(word) for word in words)


def _escaped(word: str) -> str:
    return "$'" + word.encode("unicode_escape").decode().replace("'", "\\'") + "'"


def train_command(results: Results) -> str:
    """Return the ``prune-gym train`` line that gives the run's configuration."""
    config = results.config
    options: dict[str, Any] = {
        "env": config.env,
        "agent": config.agent,
        "episodes": config.episodes,
        "seed": config.seed,
        "preference": _pairs(config.preference or {}),
        "threads": config.threads or "",
    }
    words = ["prune-gym", "train"]
    for name, value in options.items():
        words += [f"--{name}", str(value)] if value != "" else []
    return shell_line([*words, *env_words(config.env_kwargs), "--run", str(results.path)])


def env_words(env_kwargs: Mapping[str, Any]) -> list[str]:
    """Return the options of ``prune-gym train`` for arguments of the environment."""
    words, rest = [], dict(env_kwargs)
    for name in NAMED:
        if isinstance(rest.get(name), str):
            words += [f"--{name}", rest.pop(name)]
    if _is_names(rest.get("objectives")):
        words += ["--objectives", ",".join(rest.pop("objectives"))]
    if isinstance(rest.get("budgets"), dict):
        for name, share in rest.pop("budgets").items():
            words += ["--budget", f"{name}={share!r}"]
    for name, value in rest.items():
        words += ["--set", f"{name}={json.dumps(value)}"]
    return words


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def next_commands(strategy: Path, score: str) -> dict[str, str]:
    """Return what can be done with a strategy's file: purpose -> command.

    ``score`` is ``Data.metric_name``, what accuracy is called there: only classifiers are trained.
    """
    train = {"Fine-tune it": "finetune"} if score == "accuracy" else {}
    purposes = {
        "Cut the network and measure it on the test split": "apply",
        **train,
        "Export it as ONNX": "export",
    }
    words = {purpose: ["prune-gym", name, str(strategy)] for purpose, name in purposes.items()}
    return {purpose: shell_line(each) for purpose, each in words.items()}


def commands_of(results: Results, episode: int) -> dict[str, str]:
    """Return what can be done with a strategy of the front: purpose -> command.

    A run writes its strategies to files at its end. Before that the first command is the one that
    writes this strategy: it gives limits that only this one keeps.
    """
    if file := results.files.get(episode):
        return next_commands(file, results.score)
    words = ["prune-gym", "choose", str(results.path)]
    for objective in results.objectives:
        value = results.records[episode].metrics[objective.metric]
        limit = "--min" if objective.direction > 0 else "--max"
        words += [limit, f"{objective.metric}={value!r}"]
    write = shell_line([*words, "--out", "strategy.json"])
    return {"Write the strategy to a file": write} | next_commands(
        Path("strategy.json"), results.score
    )


def _pairs(values: Mapping[str, float]) -> str:
    return ",".join(f"{name}={value!r}" for name, value in values.items())
