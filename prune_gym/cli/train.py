"""``prune-gym train``: one search, the main job."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from prune_gym.cli.env_options import add_env_options, env_kwargs
from prune_gym.cli.values import natural_number, new_folder, pairs, positive
from prune_gym.errors import UserError
from prune_gym_start import INTERRUPTED

if TYPE_CHECKING:
    from prune_gym.experiments.record import RecordRun
    from prune_gym.experiments.run_config import RunConfig

HELP = "search how to compress a network"
ENV, AGENT = "ChannelPrune-VGG16Half-DigitPairs-v0", "ehvi-envelope-ddpg"
FIGURES = ("hypervolume {task.fields[hypervolume]:.4f}", "front {task.fields[front]}")


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("--env", default=ENV, help="environment id (default: %(default)s)")
    add("--agent", default=AGENT, help="its name, or module:function (default: %(default)s)")
    add("--episodes", type=positive, default=150, help="strategies to evaluate (%(default)s)")
    add("--seed", type=natural_number, default=0)
    add("--preference", type=pairs, metavar="NAME=WEIGHT,...", help="priorities of objectives")
    add_env_options(parser)
    add("--jobs", type=positive, help="processes for generations (jcw, emomc, nsga2; default: 1)")
    add("--ray", metavar="ADDRESS", help="of a Ray cluster that evaluates them")
    threads = "of each process; other numbers give other last digits (default: the machine's)"
    add("--threads", type=positive, help=threads)
    add("--run", type=new_folder, help="run folder (default: runs/ENV-AGENT-SEED)")
    add("--resume", action="store_true", help="go on with the run in the folder")


def run(options: argparse.Namespace, console: Console) -> int:
    """Search, write the front, and print it."""
    from prune_gym._utils.parallel import limit_threads
    from prune_gym.agents import find_agent
    from prune_gym.envs.make import make_env, require_env
    from prune_gym.experiments.folder import RunFolder
    from prune_gym.experiments.record import RecordRun
    from prune_gym.objectives.objective import weights_array

    require_env(options.env)
    config = run_config(options)
    find_agent(options.agent)  # before anything is built
    assert config.threads is not None
    with limit_threads(config.threads):
        console.print(
            f"Preparing {options.env} (the first time builds and caches data and statistics)"
        )
        env = make_env(options.env, **config.env_kwargs)
        if options.preference:
            names = [objective.name for objective in env.get_wrapper_attr("objectives")]
            weights_array(options.preference, names)
        folder = RunFolder(_folder(options), config, options.resume)
        try:
            recorded = RecordRun(env, folder)
        except BaseException:
            folder.discard()
            raise
        try:
            return _search(recorded, options, console)
        except KeyboardInterrupt:
            console.print(f"Interrupted; --resume finishes what {folder.path} lacks")
            return INTERRUPTED
        finally:
            recorded.close()
            if not recorded.episode and not folder.journal.records:
                folder.discard()


def run_config(options: argparse.Namespace) -> "RunConfig":
    """Return what determines the run that the options ask for.

    Raises:
        UserError: options that do not go together, or an argument that no environment takes.
    """
    from prune_gym.agents import TAKE_PRIORITIES, takes_priorities
    from prune_gym.experiments.run_config import RunConfig

    if options.preference and not takes_priorities(options.agent):
        raise UserError(
            f"--preference is for {', '.join(TAKE_PRIORITIES)}; {options.agent} looks for the "
            "whole front alike: ask `prune-gym choose RUN --preference` afterwards instead"
        )
    return RunConfig(
        options.env,
        options.agent,
        options.episodes,
        options.seed,
        env_kwargs(options, [options.env]),
        options.preference,
        threads=options.threads or _recorded_threads(options) or _threads_of_this_process(),
    )


def _folder(options: argparse.Namespace) -> Path:
    name = f"{options.env}-{options.agent}-{options.seed}".replace(":", "-")
    return options.run or Path("runs") / name


def _recorded_threads(options: argparse.Namespace) -> int | None:
    """Return the threads of the run to go on with: another machine may have more or fewer."""
    from prune_gym.experiments.folder import CONFIG
    from prune_gym.experiments.run_config import read_config

    file = _folder(options) / CONFIG
    try:
        return read_config(file).threads if options.resume and file.is_file() else None
    except UserError:
        return None  # opening the folder says what is wrong


def _threads_of_this_process() -> int:
    import torch

    return torch.get_num_threads()


def _search(env: "RecordRun", options: argparse.Namespace, console: Console) -> int:
    """Run the agent and write what it found; returns the exit status."""
    from prune_gym._utils.parallel import workers
    from prune_gym.cli.progress import ProgressBars
    from prune_gym.experiments.folder import LOG
    from prune_gym.experiments.results import caution_of
    from prune_gym.experiments.run_agent import run_agent, save_results

    folder, config = env.folder, env.folder.config
    if folder.journal.warning:
        console.print(f"[yellow]{escape(folder.journal.warning)}")
    if known := len(folder.journal.records):
        console.print(f"Resuming: {known} finished episodes are played again, not evaluated")
    console.print(
        f"Searching with {config.agent}: {config.episodes} strategies, each of "
        f"{len(env.problem.decisions)} decisions, repaired and scored on "
        f"{len(env.problem.evaluator.data.search):,} images"
    )
    if said := caution_of(env.core):
        console.print(said)
    started = time.perf_counter()
    progress = ProgressBars(console, FIGURES, folder.path / LOG)
    progress.note(f"{'resumed' if known else 'started'}: {config.agent} on {config.env}")
    episodes = progress.add_task("episodes", total=config.episodes, hypervolume=0.0, front=0)

    def show() -> None:
        front, volume = int(env.on_front().sum()), env.hypervolume
        progress.update(episodes, completed=env.episode, hypervolume=volume, front=front)
        if env.episode == config.episodes:
            progress.begin(episodes, "finishing the agent")

    interrupted, trained, beside, seconds = False, None, 0, 0.0
    with progress:
        try:
            with workers(options.jobs, options.ray):
                trained = run_agent(env, show)
            seconds = time.perf_counter() - started
            progress.begin(episodes, "uniform sweep")
            beside = env.complete_uniform_sweep()
        except KeyboardInterrupt:
            interrupted = True
        progress.update(episodes, description="episodes")
    if env.episode and not env.replaying:  # an interrupted replay leaves the front as it was
        save_results(env, trained)
    if interrupted:
        kept = max(env.episode, known)
        said = f"interrupted: unfinished, {kept} of {config.episodes} strategies are evaluated"
        progress.note(said)
        console.print(
            f"[yellow]{said[0].upper()}{said[1:]}[/]; "
            + (escape(f"{folder.path} keeps them and --resume goes on") if kept else "start again"),
            highlight=False,
            soft_wrap=True,
        )
        return INTERRUPTED
    progress.note("finished")
    _print_results(env, console, seconds, beside)
    return 0


def _print_results(env: "RecordRun", console: Console, seconds: float, beside: int) -> None:
    from prune_gym.cli.front_table import front_table
    from prune_gym.experiments.commands import shell_line

    path = env.folder.path
    console.print(front_table(env))
    balanced = path / "front" / f"{env.front().index(env.knee()):03d}.json"
    commands = {
        "Look closer": ["tensorboard", "--logdir", str(path)],
        "Best-balanced": ["prune-gym", "apply", str(balanced)],
        "Another": ["prune-gym", "choose", str(path), "--max", "flops=0.5"],
    }
    lines = [
        f"{env.episode} strategies in {seconds:.0f} s "
        f"({seconds / max(env.episode, 1):.2f} s each); hypervolume {env.hypervolume:.4f}",
        f"{'Picture:':<15}{path / 'front.png'}"
        + (f" (with a uniform sweep as reference, {beside} evaluated beside)" if beside else ""),
        f"{'Table:':<15}{path / 'front.csv'}",
        *(f"{purpose + ':':<15}{shell_line(words)}" for purpose, words in commands.items()),
    ]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
