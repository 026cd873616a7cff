"""The two-stage paper's chain: prune, take one network of the front, then decide its bits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import prune_gym
from envs_registry import ENVS, VERSION
from prune_gym.choice import knee_point
from prune_gym.deploy.apply import save_of
from prune_gym.objectives import change, natural
from prune_gym.record import RecordRun
from prune_gym.run import CONFIG, RunFolder
from prune_gym.searching import keep, play
from prune_gym.strategy import strategy_from_dict

SPACES = ("TwoStagePrune", "Quantize")
ELSE = "VGG16"  # its ids serve a network that has none of its own


@dataclass(frozen=True)
class Stage:
    """What came of one stage.

    Attributes:
        original: metrics of the network that it started from, in natural units.
        found: metrics of the network that was taken.
        network: that network's file.
    """

    original: dict[str, float]
    found: dict[str, float]
    network: Path


def two_stage(
    network: str,
    data: str,
    episodes: int,
    seed: int,
    run: Path,
    pick: int | None,
    console: Console,
) -> None:
    """Search both stages and write ``pruned`` and ``quantised``, each .json and .safetensors.

    What the run folder holds already is not evaluated again: the same command goes on.

    Args:
        network: a name, or ``package.module:function``.
        data: likewise.
        episodes: strategies to evaluate in each stage.
        seed: of all randomness.
        run: folder; the stages' own run folders are ``stage-1`` and ``stage-2`` in it.
        pick: which network of the first front to go on with, by its number; None: the knee.
        console: where to say how it goes.

    Raises:
        ValueError: an unknown name, or no such number.
        RunError: the folder holds another run, or is in use.
    """
    first_id, first_kwargs = _task(SPACES[0], network, data)
    first = _stage(run, "stage-1", "pruned", first_id, first_kwargs, episodes, seed, pick, console)
    second_id, second_kwargs = _task(SPACES[1], network, data)
    second_kwargs["network"] = str(first.network)
    second = _stage(
        run, "stage-2", "quantised", second_id, second_kwargs, episodes, seed, None, console
    )
    console.print(_table(first, second))
    console.print(
        f"Networks: {first.network} and {second.network}", highlight=False, soft_wrap=True
    )


def _task(space: str, network: str, data: str) -> tuple[str, dict[str, Any]]:
    """Return the id of a search space for a network on data, and arguments beside it."""
    for name, kwargs in ENVS.items():
        if name.startswith(f"{space}-") and (kwargs["network"], kwargs["data"]) == (network, data):
            return f"{name}-{VERSION}", {}
    # Whether a latency table has the layers of another network is not known.
    return f"{space}-{ELSE}-{VERSION}", {"network": network, "data": data, "latency": None}


def _stage(
    run: Path,
    folder: str,
    name: str,
    env_id: str,
    env_kwargs: dict[str, Any],
    episodes: int,
    seed: int,
    pick: int | None,
    console: Console,
) -> Stage:
    """Search one stage, take a strategy and write it and its network."""
    config = {
        "env": env_id,
        "env_kwargs": env_kwargs,
        "agent": "two-stage",
        "episodes": episodes,
        "seed": seed,
        "preference": None,
        "version": prune_gym.__version__,
    }
    path = run / folder
    console.print(f"{folder}: {env_id}, {episodes} strategies", highlight=False)
    env = gym.make(env_id, **env_kwargs)
    recorded = RecordRun(env, RunFolder(path, config, resume=(path / CONFIG).is_file()))
    try:
        with _progress(console) as progress:
            task = progress.add_task(folder, total=episodes)
            trained = play(recorded, config, lambda: progress.advance(task))
        keep(recorded, trained)
        taken = _taken(recorded, pick)
    finally:
        recorded.close()
    strategy = strategy_from_dict(taken["strategy"])
    strategy.save(run / f"{name}.json")
    out, core = run / f"{name}.safetensors", recorded.core
    candidate, test = core.apply(strategy), core.evaluator.data.test
    save_of(strategy, core, candidate, out)
    score = core.evaluator.score
    original = core.original_metrics | {"test_accuracy": score(core.evaluator.network, test)}
    metrics = {metric: taken[metric] for metric in original if metric in taken}
    return Stage(original, metrics | {"test_accuracy": score(candidate, test)}, out)


def _taken(recorded: RecordRun, pick: int | None) -> dict[str, Any]:
    """Return the record of the knee, or of ``front/PICK.json``."""
    if pick is None:
        return recorded.records[knee_point(np.array(recorded.returns))]
    front = recorded.front()
    if not 0 <= pick < len(front):
        raise ValueError(f"--pick: expected one of front/, 0 to {len(front) - 1}, got {pick}")
    return front[pick]


def _table(first: Stage, second: Stage) -> Table:
    table = Table("", "original", "pruned", "quantised", "change", title="Pruned, then quantised")
    for metric, before in first.original.items():
        if metric not in first.found or metric not in second.found:
            continue  # latency: of float code alone
        shown = "accuracy" if metric == "test_accuracy" else metric
        values = (before, first.found[metric], second.found[metric])
        label = {"accuracy": "accuracy, search split", "test_accuracy": "accuracy, test split"}
        cells = (natural(value, shown) for value in values)
        table.add_row(label.get(metric, metric), *cells, change(before, values[2], shown))
    return table


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console)
