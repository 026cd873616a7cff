"""``prune-gym benchmark``: agents on equal terms, resumable, in parallel."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from rich.console import Console

from prune_gym.cli.env_options import add_env_options, env_kwargs
from prune_gym.cli.progress import ProgressBars
from prune_gym.cli.values import new_folder, positive
from prune_gym.errors import UserError

if TYPE_CHECKING:
    from prune_gym.experiments.benchmark.cells import Cell

HELP = "compare agents at equal numbers of evaluations, over seeds and environments"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("--envs", nargs="+", required=True, metavar="ID", help="vector environment ids")
    add("--agents", nargs="+", required=True, metavar="NAME", help="or module:function")
    add("--seeds", type=positive, default=5, help="per environment and agent (%(default)s)")
    add("--evaluations", type=positive, default=300, help="per cell (%(default)s)")
    add_env_options(parser)
    add("--jobs", type=positive, help="cells at a time (default: 1; with --ray all processors)")
    add("--ray", metavar="ADDRESS", help="of a Ray cluster whose nodes all see DIR")
    add("--out", type=new_folder, required=True, metavar="DIR", help="new, or one to go on with")


def run(options: argparse.Namespace, console: Console) -> int:
    """Run what is not finished yet, then write the CSV files."""
    from prune_gym._utils.parallel import workers
    from prune_gym.envs.make import require_env
    from prune_gym.experiments.benchmark.backends import run_cells
    from prune_gym.experiments.benchmark.cells import make_cells
    from prune_gym.experiments.benchmark.collect import collect
    from prune_gym.experiments.commands import shell_line

    for env in options.envs:
        require_env(env)
    given = env_kwargs(options, options.envs)
    cells = make_cells(
        options.out, options.envs, options.agents, options.seeds, options.evaluations, given
    )
    _adopt(options.out, options.evaluations, given)
    with workers(options.jobs, options.ray), _watching(cells, console):
        failed = run_cells(cells)
    if len(failed) < len(cells):
        collect(options.out)
        words = ["prune-gym", "benchmark-report", str(options.out)]
        hint = f"Table and plots: {shell_line(words)}"
        console.print(hint, markup=False, highlight=False, soft_wrap=True)
    for cell, error in failed.items():
        console.print(f"failed: {cell}: {error}", style="red", markup=False, soft_wrap=True)
    return 1 if failed else 0


def _adopt(root: Path, evaluations: int, env_kwargs: Mapping[str, Any]) -> None:
    """Take a new folder, or one whose cells have as many evaluations and the same arguments."""
    from prune_gym._utils.json_file import read_json
    from prune_gym._utils.paths import write_atomically

    file = root / "benchmark.json"
    if file.is_file():
        try:
            recorded = read_json(file)
            before, arguments = recorded["evaluations"], recorded.get("env_kwargs", {})
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{file} is damaged ({error!r}); give another --out") from None
        if arguments != env_kwargs:
            raise UserError(
                f"{root} holds cells whose environments were made with {arguments}, which cannot "
                f"be compared with {dict(env_kwargs)}: give the same options, or another --out"
            )
        if before != evaluations:
            raise UserError(
                f"{root} holds cells of {before} evaluations, which cannot be compared with cells "
                f"of {evaluations}: go on with --evaluations {before}, or give another --out"
            )
    content: dict[str, Any] = {"evaluations": evaluations}
    if env_kwargs:
        content["env_kwargs"] = env_kwargs
    write_atomically(file, (json.dumps(content) + "\n").encode())


@contextmanager
def _watching(cells: Sequence["Cell"], console: Console) -> Iterator[None]:
    """Show how far all cells are, read from their journals: they run in other processes."""
    with ProgressBars(console) as progress:
        done = progress.add_task("cells", total=len(cells))
        evaluated = progress.add_task("evaluations", total=sum(c.evaluations for c in cells))
        stop = Event()

        def update() -> None:
            progress.update(done, completed=sum(cell.finished for cell in cells))
            progress.update(evaluated, completed=sum(cell.episodes for cell in cells))

        def watch() -> None:
            while not stop.wait(1.0):
                update()

        thread = Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            update()
