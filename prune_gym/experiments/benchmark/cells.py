"""One cell of the benchmark: an agent, an environment and a seed, in a run folder of its own."""

import hashlib
import json
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from prune_gym._utils.parallel import limit_threads
from prune_gym._utils.paths import write_atomically
from prune_gym.agents import find_agent
from prune_gym.agents.common.api import problem_of
from prune_gym.envs.make import make_env, require_env
from prune_gym.envs.tabulated import NotTabulatedError
from prune_gym.errors import MissingFileError, UserError
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.evaluation.task import load_evaluator
from prune_gym.experiments.benchmark.preferences import preference_grid, proposals
from prune_gym.experiments.folder import CONFIG, JOURNAL, InUseError, RunFolder
from prune_gym.experiments.provenance import number_format
from prune_gym.experiments.record import RecordRun
from prune_gym.experiments.run_agent import run_agent, save_results
from prune_gym.experiments.run_config import RunConfig, read_config

RUNS, MEMO, FINISHED, ERROR = "runs", "memo", "cell.json", "error.txt"
PATIENCE = 60.0  # seconds, for another process to leave a run folder
THREADS = 1  # of a cell: many run side by side
SEEDLESS = ("uniform",)  # agents without randomness: one seed says it all


@dataclass(frozen=True)
class Cell:
    """A search of the benchmark.

    Attributes:
        env: environment id.
        agent: name of the agent.
        seed: of all randomness.
        evaluations: strategies that the agent may evaluate.
        root: the benchmark's folder.
        env_kwargs: arguments of the environment beside its id, as plain data.
    """

    env: str
    agent: str
    seed: int
    evaluations: int
    root: Path
    env_kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        """Return what people call it."""
        return f"{self.env} {self.agent} seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Its run folder."""
        names = (name.replace(":", "-") for name in (self.env, self.agent))
        return self.root.joinpath(RUNS, *names, f"seed-{self.seed}")

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return (self.folder / FINISHED).is_file()

    @property
    def episodes(self) -> int:
        """How many strategies it has evaluated by now."""
        if self.finished:
            return self.evaluations
        journal = self.folder / JOURNAL
        return journal.read_bytes().count(b"\n") if journal.is_file() else 0

    @property
    def config(self) -> RunConfig:
        """What determines the run."""
        return RunConfig(
            self.env, self.agent, self.evaluations, self.seed, self.env_kwargs, threads=THREADS
        )


def make_cells(
    root: Path,
    envs: Sequence[str],
    agents: Sequence[str],
    seeds: int,
    evaluations: int,
    env_kwargs: Mapping[str, Any] | None = None,
) -> list[Cell]:
    """Return all cells, seeds first: those that run side by side share no warm-up to wait for.

    An id ``module:ID`` is registered by importing ``module``, as Gymnasium does it.
    Cells name their folder from the root of the file system: other processes run elsewhere.

    Args:
        root: the benchmark's folder.
        envs: environment ids.
        agents: names of agents.
        seeds: how many, per environment and agent.
        evaluations: strategies that each cell evaluates.
        env_kwargs: arguments of all environments beside their ids, as plain data.

    Raises:
        UserError: no such module; an unknown environment or agent, an id without a vector
            reward, or arguments that an environment does not take.
    """
    for env in envs:
        require_env(env)
        if ":" in env or env_kwargs:  # the shipped ones can be made
            make_env(env, **(env_kwargs or {}))
    for agent in agents:
        find_agent(agent)
    return [
        Cell(env, agent, seed, evaluations, root.absolute(), env_kwargs or {})
        for env in dict.fromkeys(envs)
        for agent in dict.fromkeys(agents)
        for seed in range(1 if agent in SEEDLESS else seeds)
    ]


def find_cells(root: Path) -> list[Cell]:
    """Return the finished cells in a benchmark's folder, in the order of their names.

    Raises:
        MissingFileError: there are none.
        UserError: the configuration of one is damaged, or of a cell that lies in another folder.
    """
    cells = []
    for file in sorted((root / RUNS).glob(f"*/*/*/{FINISHED}")):
        c = read_config(file.parent / CONFIG)
        cell = Cell(c.env, c.agent, c.seed, c.episodes, root, c.env_kwargs)
        if cell.folder != file.parent:  # a copy, which would count twice
            raise UserError(
                f"{file.parent / CONFIG} is of {cell}, whose folder is {cell.folder}; delete "
                f"{file.parent} or move it out of {root / RUNS}"
            )
        cells.append(cell)
    if not cells:
        raise MissingFileError(f"{root} holds no finished cell of `prune-gym benchmark`")
    return cells


def run_cell(cell: Cell, benchmark: int | None) -> str:
    """Run a cell or go on with it; returns "" or, where it fails, the error.

    An exception of an agent must not stop the other cells, nor cross processes that may lack what
    it takes to unpickle it.

    Args:
        cell: which one.
        benchmark: the benchmark's process, this one or its parent, without which the cell stops;
            None on a cluster, which ends the tasks of a benchmark that was killed.
    """
    try:
        with limit_threads(THREADS):
            _run(cell, _unless_killed(benchmark))
    except Exception as error:
        write_atomically(cell.folder / ERROR, traceback.format_exc().encode())
        return f"{type(error).__name__}: {error}"
    (cell.folder / ERROR).unlink(missing_ok=True)
    return ""


def _run(cell: Cell, check: Callable[[], None]) -> None:
    check()
    made = gym.make(cell.env, **cell.env_kwargs)
    _share_accuracies(problem_of(made).evaluator, cell.root / MEMO)
    env = RecordRun(made, _open(cell))
    anew, evaluator = not env.replaying, env.problem.evaluator
    started = time.process_time() - evaluator.seconds
    try:
        trained = run_agent(env, check)
        seconds = time.process_time() - evaluator.seconds - started  # beside evaluations
        save_results(env, trained)
        if env.episode < cell.evaluations:
            raise UserError(f"it stopped after {env.episode} of {cell.evaluations} strategies")
        outcome = _outcome(env, trained) | {"agent_seconds": seconds if anew else None}
        write_atomically(cell.folder / FINISHED, json.dumps(outcome).encode())
    finally:
        env.close()


def _share_accuracies(evaluator: Evaluator, folder: Path) -> None:
    """Let an evaluator that was made by name use the file of its task under ``folder``.

    The task is the network and its weights, the data, the repair, and the number format that
    candidates are scored in. Nothing names what an evaluator of the user's own objects evaluates.
    """
    make, by_name = evaluator.__reduce__()
    if make is load_evaluator:
        stated = f"{by_name} {evaluator.checksum} {number_format(evaluator.device)}"
        task = hashlib.sha256(stated.encode()).hexdigest()[:16]
        evaluator.cache.share(folder / f"{task}.jsonl")


def _open(cell: Cell) -> RunFolder:
    """Open the run folder; a process of a benchmark that was killed may still be leaving it."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return RunFolder(cell.folder, cell.config, resume=(cell.folder / CONFIG).is_file())
        except InUseError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _unless_killed(benchmark: int | None) -> Callable[[], None]:
    """Return what stops a search whose benchmark was killed, so that another can go on with it."""

    def check() -> None:
        if benchmark not in (None, os.getpid(), os.getppid()):
            raise RuntimeError("the benchmark that this cell is of was killed")

    return check


def _outcome(env: RecordRun, trained: Any) -> dict[str, Any]:
    """Return what the run folder does not hold already, as plain data."""
    returns = np.array(env.returns)
    grid = preference_grid(returns.shape[1])
    source, proposed = proposals(env.core, trained, returns, grid)
    return {
        "source": source,
        "preferences": grid.tolist(),
        "proposed": proposed.tolist(),
        "true_front": _true_front(env.core),
    }


def _true_front(env: gym.Env) -> list[list[float]] | None:
    """Return the returns that no strategy dominates, of an environment that knows them."""
    if not (front := getattr(env, "pareto_front", None)):
        return None
    try:
        return np.asarray(front(1.0)).tolist()
    except NotTabulatedError:
        return None
