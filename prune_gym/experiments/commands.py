"""Command lines for people: the one of a run, and what to do with a strategy."""

import shlex
from pathlib import Path
from typing import Any

from prune_gym.experiments.results import Results

# Arguments of the environment that are options of train.py; the first take one name.
NAMED = ("network", "data", "library")
OPTIONS = {"objectives", "budgets", *NAMED}


def train_command(results: Results) -> str:
    """Return the ``python train.py`` line that gives the run's configuration.

    Where an argument of the environment is no option of ``train.py``, that is what it says instead.
    """
    config = results.config
    kwargs = config["env_kwargs"]
    if others := sorted(kwargs.keys() - OPTIONS):
        return (
            f"# train.py has no option for {', '.join(others)}; {config['agent']}, "
            f"{config['episodes']} episodes, seed {config['seed']}, on "
            f"gym.make({config['env']!r}, **{kwargs!r})"
        )
    options: dict[str, Any] = {
        "env": config["env"],
        "agent": config["agent"],
        "episodes": config["episodes"],
        "seed": config["seed"],
        "objectives": ",".join(kwargs.get("objectives", ())),
        **{name: kwargs.get(name, "") for name in NAMED},
        "preference": _pairs(config["preference"] or {}),
    }
    budgets = [f"{name}={share!r}" for name, share in kwargs.get("budgets", {}).items()]
    words = ["python", "train.py"]
    for name, value in options.items():
        words += [f"--{name}", str(value)] if value != "" else []
    for budget in budgets:
        words += ["--budget", budget]
    return shlex.join([*words, "--run", str(results.path)])


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
    return {purpose: shlex.join(each) for purpose, each in words.items()}


def commands_of(results: Results, episode: int) -> dict[str, str]:
    """Return what can be done with a strategy of the front: purpose -> command.

    A run writes its strategies to files at its end. Before that the first command is the one that
    writes this strategy: it gives limits that only this one keeps.
    """
    if file := results.files.get(episode):
        return next_commands(file, results.score)
    words = ["prune-gym", "choose", str(results.path)]
    for objective in results.objectives:
        value = results.records[episode][objective.metric]
        limit = "--min" if objective.direction > 0 else "--max"
        words += [limit, f"{objective.metric}={value!r}"]
    write = shlex.join([*words, "--out", "strategy.json"])
    return {"Write the strategy to a file": write} | next_commands(
        Path("strategy.json"), results.score
    )


def _pairs(values: dict[str, float]) -> str:
    return ",".join(f"{name}={value!r}" for name, value in values.items())
