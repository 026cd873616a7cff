"""Run the two-stage paper's chain: prune, take one network of the front, decide its bits."""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym

from envs_registry import ENVS, VERSION
from prune_gym._utils.progress import OnProgress, ignore_progress
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.envs.replay import save_of
from prune_gym.errors import UserError
from prune_gym.experiments.evaluated_strategy import EvaluatedStrategy
from prune_gym.experiments.folder import CONFIG, RunFolder
from prune_gym.experiments.record import RecordRun
from prune_gym.experiments.run_agent import run_agent, save_results
from prune_gym.experiments.run_config import RunConfig
from prune_gym.search_space.strategy import Strategy

logger = logging.getLogger(__name__)

AGENT = "two-stage"
SPACES = ("TwoStagePrune", "Quantize")
ELSE = "VGG16"  # its ids serve a network that has none of its own


@dataclass(frozen=True)
class Stage:
    """The network that one stage took.

    Attributes:
        original: metrics of the network that it started from, in natural units.
        found: metrics of the network that was taken.
        network: that network's file.
        strategy: that network's decisions.
    """

    original: dict[str, float]
    found: dict[str, float]
    network: Path
    strategy: Strategy


def two_stage(
    network: str,
    data: str,
    episodes: int,
    seed: int,
    run: Path,
    pick: int | None = None,
    on_progress: OnProgress = ignore_progress,
) -> tuple[Stage, Stage]:
    """Search both stages and write ``pruned`` and ``quantized``, each .json and .safetensors.

    What the run folder holds already is not evaluated again: the same command goes on.

    Args:
        network: a name, or ``package.module:function``.
        data: likewise.
        episodes: strategies to evaluate in each stage.
        seed: of all randomness.
        run: folder; the stages' own run folders are ``stage-1`` and ``stage-2`` in it.
        pick: which network of the first front to go on with, by its number; None: the knee.
        on_progress: called after every strategy of a stage with their number and their total.

    Raises:
        UserError: an unknown name, or no such number.
        RunError: the folder holds another run, or is in use.
    """
    env_id, kwargs = _task(SPACES[0], network, data)
    config = RunConfig(env_id, AGENT, episodes, seed, kwargs)
    env = _make(config)
    strategy, core = _search(env, _folder(run / "stage-1", config), pick, on_progress)
    pruned = run / "pruned"
    env_id, kwargs = _task(SPACES[1], network, data)
    file = str(pruned.with_suffix(".safetensors").absolute())
    # A file names no function to call: where the user named one, it is named again.
    kwargs["network"] = f"{network}@{file}" if ":" in network else file
    config = RunConfig(env_id, AGENT, episodes, seed, kwargs, start=_digest(strategy))
    folder = _folder(run / "stage-2", config)  # refuses another start while its files are whole
    first = _write(strategy, core, pruned)
    found = _search(_make(config), folder, None, on_progress)
    return first, _write(*found, run / "quantized")


def _task(space: str, network: str, data: str) -> tuple[str, dict[str, Any]]:
    """Return the id of a search space for a network on data, and arguments beside it."""
    for name, kwargs in ENVS.items():
        if name.startswith(f"{space}-") and (kwargs["network"], kwargs["data"]) == (network, data):
            return f"{name}-{VERSION}", {}
    # No latency: its table may lack layers of this network.
    return f"{space}-{ELSE}-{VERSION}", {"network": network, "data": data, "latency": None}


def _digest(strategy: Strategy) -> str:
    """Return what tells the start of the second stage from others, whose accuracies are others."""
    return hashlib.sha256(json.dumps(strategy.decisions).encode()).hexdigest()[:16]


def _folder(path: Path, config: RunConfig) -> RunFolder:
    return RunFolder(path, config, resume=(path / CONFIG).is_file())


def _make(config: RunConfig) -> gym.Env:
    return gym.make(config.env, **config.env_kwargs)


def _search(
    env: gym.Env, folder: RunFolder, pick: int | None, on_progress: OnProgress
) -> tuple[Strategy, CompressionEnv]:
    """Search one stage and return the strategy that is taken, and its environment."""
    config, total = folder.config, folder.config.episodes
    logger.info("%s: %s, %d strategies", folder.path.name, config.env, total)
    recorded = RecordRun(env, folder)
    try:
        trained = run_agent(recorded, lambda: on_progress(recorded.episode, total))
        save_results(recorded, trained)
        taken = _taken(recorded, pick)
    finally:
        recorded.close()
    return taken.strategy, recorded.core


def _write(strategy: Strategy, core: CompressionEnv, taken: Path) -> Stage:
    """Write a strategy and its network, and measure that on the test split."""
    strategy.save(taken.with_suffix(".json"))
    out, candidate = taken.with_suffix(".safetensors"), core.problem.apply(strategy)
    save_of(strategy, core, candidate, out)
    evaluator, test = core.problem.evaluator, core.problem.evaluator.data.test
    original = core.problem.original | {"test_accuracy": evaluator.original_score(test)}
    found = strategy.metrics | {"test_accuracy": evaluator.score(candidate, test)}
    return Stage(original, found, out, strategy)


def _taken(recorded: RecordRun, pick: int | None) -> EvaluatedStrategy:
    """Return the knee, or the strategy of ``front/PICK.json``."""
    if pick is None:
        return recorded.knee()
    front = recorded.front()
    if not 0 <= pick < len(front):
        raise UserError(f"--pick: expected one of front/, 0 to {len(front) - 1}, got {pick}")
    return front[pick]
