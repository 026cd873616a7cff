"""``prune-gym leaderboard add``: results of agents whose fronts are measured again here."""

import argparse
from collections.abc import Iterable, Sequence
from itertools import count, groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from prune_gym.cli.values import new_file

if TYPE_CHECKING:
    from prune_gym.experiments.benchmark.leaderboard import Entry, Replay

HELP = "enter results of a benchmark into a leaderboard, after measuring them again"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    actions = parser.add_subparsers(required=True, metavar="add")
    adding = actions.add_parser("add", help=HELP, allow_abbrev=False)
    add = adding.add_argument
    add("results", type=Path, metavar="RESULTS", help="--out of prune-gym benchmark")
    add(
        "--out",
        type=new_file,
        default=Path("leaderboard.csv"),
        metavar="FILE",
        help="the leaderboard, new or to be updated (%(default)s)",
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure every front again and add the results; 1 where a claim is not reproduced."""
    import gymnasium as gym

    from prune_gym.agents.common.api import problem_of
    from prune_gym.cli.progress import shown_progress
    from prune_gym.experiments.benchmark.leaderboard import (
        add_entries,
        make_entries,
        read_leaderboard,
        read_submissions,
    )

    submissions = read_submissions(options.results)
    if options.out.exists():
        read_leaderboard(options.out)  # a file that is none is told before the work is done
    problems = {env: problem_of(gym.make(env)) for env in {each.cell.env for each in submissions}}
    total, done = sum(len(each.results.front) for each in submissions), count(1)
    with shown_progress(console, "strategies") as on_progress:
        replays = [
            each.replay(problems[each.cell.env], lambda: on_progress(next(done), total))
            for each in submissions
        ]
    if failed := [replay for replay in replays if not replay.reproduced]:
        console.print(_failures(failed))
        console.print(f"{options.out} is left as it was", markup=False, soft_wrap=True)
        return 1
    board = add_entries(options.out, make_entries(replays))
    for (env, evaluations), entries in groupby(board, lambda e: (e.env, e.evaluations)):
        console.print(_table(f"{env}, {evaluations} evaluations", entries))
    console.print(f"Wrote {options.out}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _failures(replays: Sequence["Replay"]) -> Table:
    """Return what each cell claims and what was found, for the first claim of each metric."""
    from prune_gym._utils.formatting import format_metric
    from prune_gym.cli.comparison import plain

    table = Table("cell", "metric", "claimed", "found here", title="NOT reproduced")
    for replay in replays:
        cell = plain(str(replay.cell))
        if not replay.same_weights:
            table.add_row(cell, "weights", "other weights", "")
        for name, claim in {claim.name: claim for claim in reversed(replay.refuted)}.items():
            values = (format_metric(v, name) for v in (claim.claimed, claim.found))
            table.add_row(cell, plain(name), *values)
    return table


def _table(title: str, entries: Iterable["Entry"]) -> Table:
    from prune_gym.cli.comparison import plain

    columns = ("agent", "seeds", "hypervolume", "expected utility", "version")
    table = Table(*columns, title=plain(title))
    for e in entries:
        volume = f"{e.hypervolume:.4f} ({e.low:.4f} to {e.high:.4f})"
        utility = f"{e.expected_utility:.4f}"
        table.add_row(plain(e.agent), str(e.seeds), volume, utility, plain(e.version))
    return table
