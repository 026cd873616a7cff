"""One search from the command line: ``python train.py`` is the main job."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

# Before torch is loaded. Threads that wait in a loop for each other hold the processor that
# another program keeps them waiting for: beside one that is busy, two such threads evaluate VGG16
# twice as slowly as two that sleep; alone they are as fast.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prune_gym._utils.formatting import format_metric
from prune_gym._utils.parallel import workers
from prune_gym.agents import AGENTS, FAMILIES, TAKE_PRIORITIES, find_agent, takes_priorities
from prune_gym.cli.guard import guarded
from prune_gym.cli.progress import progress_bar
from prune_gym.cli.values import natural_number, new_folder, pair, pairs, positive
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.envs.make import make_env, require_env
from prune_gym.errors import RunError, UserError
from prune_gym.experiments.folder import RunFolder
from prune_gym.experiments.record import RecordRun
from prune_gym.experiments.results import caution_of
from prune_gym.experiments.run_agent import configuration, keep, play
from prune_gym.objectives.objective import Objective, weights_array

FIGURES = "hypervolume {task.fields[hypervolume]:.4f}  front {task.fields[front]}"


def main(arguments: list[str] | None = None) -> int:
    """Run a search; returns the exit status."""
    console = Console()
    options = _parser().parse_args(arguments)
    return guarded(lambda: _search(options, console), console)


def _search(options: argparse.Namespace, console: Console) -> int:
    require_env(options.env)
    config = _config(options)
    find_agent(options.agent)  # before anything is built
    console.print(f"Preparing {options.env} (the first time builds and caches data and statistics)")
    env = make_env(options.env, **config["env_kwargs"])
    if options.preference:
        core: CompressionEnv = env.unwrapped  # type: ignore[assignment]
        weights_array(options.preference, [objective.name for objective in core.objectives])
    run = options.run or Path("runs") / f"{options.env}-{options.agent}-{options.seed}".replace(
        ":", "-"
    )
    folder = RunFolder(run, config, options.resume)
    recorded = RecordRun(env, folder)
    try:
        _play(recorded, config, options, console)
    except KeyboardInterrupt as error:
        raise RunError(
            f"interrupted; {run} keeps what was finished, and --resume goes on"
        ) from error
    finally:
        recorded.close()
    return 0


def _play(
    env: RecordRun, config: dict[str, Any], options: argparse.Namespace, console: Console
) -> None:
    folder = env.folder
    if folder.journal.warning:
        console.print(f"[yellow]{escape(folder.journal.warning)}")
    if known := len(folder.journal.records):
        console.print(f"Resuming: {known} finished episodes are played again, not evaluated")
    console.print(
        f"Searching with {options.agent}: {options.episodes} strategies, each of "
        f"{len(env.core.decisions)} decisions, repaired and scored on "
        f"{len(env.core.evaluator.data.search):,} images"
    )
    if said := caution_of(env.core):
        console.print(said)
    started = time.perf_counter()
    with progress_bar(console, FIGURES) as progress:
        task = progress.add_task("episodes", total=options.episodes, hypervolume=0.0, front=0)

        def finished() -> None:
            ended = env.episode == options.episodes
            progress.update(
                task,
                description="finishing the agent" if ended else "episodes",
                completed=env.episode,
                hypervolume=env.hypervolume,
                front=int(env.on_front().sum()),
            )

        try:
            with workers(options.jobs, options.ray):
                trained = play(env, config, finished)
            progress.update(task, description="episodes")
        except KeyboardInterrupt:
            kept = max(env.episode, known)
            console.print(f"Interrupted; {kept} finished episodes are kept, and --resume goes on")
            trained = None
    if not env.episode or env.replaying:
        return  # what an interrupted replay has not come to yet is still in the folder
    keep(env, trained)
    _report(env, console, time.perf_counter() - started)


def _report(env: RecordRun, console: Console, seconds: float) -> None:
    front, objectives, path = env.front(), env.core.objectives, env.folder.path
    original = env.core.original_metrics
    shown = front if len(front) <= 15 else [front[i * (len(front) - 1) // 14] for i in range(15)]
    table = Table(title=f"The front ({len(shown)} of {len(front)} strategies)")
    table.add_column("strategy", no_wrap=True)
    for objective in objectives:
        table.add_column(objective.label, justify="right", no_wrap=True)
    values = (
        format_metric(original[objective.metric], objective.metric) for objective in objectives
    )
    table.add_row("original", *values, style="bold")
    for record in shown:
        name = f"front/{front.index(record):03d}.json"
        table.add_row(name, *(_cell(o, record, original) for o in objectives))
    console.print(table)
    balanced = path / "front" / f"{front.index(env.knee()):03d}.json"
    console.print(
        f"{env.episode} strategies in {seconds:.0f} s "
        f"({seconds / max(env.episode, 1):.2f} s each); hypervolume {env.hypervolume:.4f}\n"
        f"Picture:       {path / 'front.png'}\n"
        f"Table:         {path / 'front.csv'}\n"
        f"Look closer:   tensorboard --logdir {path}\n"
        f"Best-balanced: prune-gym apply {balanced}\n"
        f"Another:       prune-gym choose {path} --max flops=50%",
        highlight=False,
        soft_wrap=True,
    )


def _cell(objective: Objective, metrics: dict[str, Any], original: dict[str, float]) -> str:
    value = metrics[objective.metric]
    shown = format_metric(value, objective.metric)
    if objective.direction > 0:
        return shown
    return f"{shown} ({100 * value / original[objective.metric]:.0f} %)"


def _config(options: argparse.Namespace) -> dict[str, Any]:
    """Return what determines the run, as plain data."""
    env_kwargs: dict[str, Any] = {}
    if options.objectives:
        env_kwargs["objectives"] = list(options.objectives)
    if options.network:
        env_kwargs["network"] = options.network
    if options.data:
        env_kwargs["data"] = options.data
    if options.library:
        env_kwargs["library"] = options.library
    if options.preference and not takes_priorities(options.agent):
        raise UserError(
            f"--preference is for {', '.join(TAKE_PRIORITIES)}; {options.agent} looks for the "
            "whole front alike: ask `prune-gym choose RUN --preference` afterwards instead"
        )
    names = [name for name, _ in options.budget or ()]
    if len(set(names)) < len(names):
        raise UserError(f"expected one --budget per cost, got {', '.join(names)}")
    if options.budget:
        env_kwargs["budgets"] = dict(options.budget)
    return configuration(
        options.env,
        options.agent,
        options.episodes,
        options.seed,
        env_kwargs=env_kwargs,
        preference=options.preference,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train.py", description="Search how to compress a network.", allow_abbrev=False
    )
    add = parser.add_argument
    add("--env", default="ChannelPrune-VGG16-v0", help="environment id (default: %(default)s)")
    add(
        "--agent",
        default="ehvi-envelope-ddpg",
        help=", ".join([*AGENTS, *(f"{family}:NAME" for family in FAMILIES), "module:function"]),
    )
    add("--episodes", type=positive, default=150, help="strategies to evaluate (%(default)s)")
    add("--seed", type=natural_number, default=0)
    add("--budget", type=pair, action="append", metavar="COST=SHARE", help="repeatable")
    add("--preference", type=pairs, metavar="NAME=WEIGHT,...", help="priorities of objectives")
    add("--objectives", type=lambda text: tuple(text.split(",")), metavar="NAME,...")
    add(
        "--network", help="start from this instead: a file of `prune-gym apply`, or module:function"
    )
    add("--data", help="a data set's name, or module:function; with --env ChannelPrune-v0")
    add("--library", metavar="FOLDER", help="of `prune-gym library`, for PruneQuantize ids")
    add("--jobs", type=positive, help="processes for generations (jcw, emomc, nsga2; default: 1)")
    add("--ray", metavar="ADDRESS", help="of a Ray cluster that evaluates them")
    add("--run", type=new_folder, help="run folder (default: runs/ENV-AGENT-SEED)")
    add("--resume", action="store_true", help="go on with the run in the folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
