"""``prune-gym choose``: one strategy of a run, by priorities, by limits, or at the knee."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from prune_gym._utils.formatting import COUNTED, unit_of
from prune_gym.cli.values import limit, new_file, pairs
from prune_gym.errors import UserError

if TYPE_CHECKING:
    from prune_gym.experiments.results import Results

HELP = "pick a strategy of a run by priorities or limits, without a new search"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("run_folder", type=Path, metavar="RUN")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--preference", type=pairs, metavar="NAME=WEIGHT,...", help="of objectives")
    how.add_argument("--knee", action="store_true", help="the best-balanced of the front")
    add(
        "--scalarization",
        choices=("linear", "tchebycheff"),
        help="how a preference is read: by the weighted sum (default), or by the objective that "
        "falls most behind its best",
    )
    most = "flops=0.5 or latency_ms=50%%, shares of the original's, or latency_ms=3, flops=1e8"
    for name, example in (("--max", most), ("--min", "accuracy=0.9 or accuracy=90%%")):
        help = f"repeatable, such as {example}"
        add(name, type=limit, action="append", default=[], metavar="METRIC=VALUE", help=help)
    add("--out", type=new_file, metavar="FILE.json", help="write the strategy here")


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the choice, its numbers and what to do with it."""
    from prune_gym.cli.comparison import comparison
    from prune_gym.experiments.commands import next_commands
    from prune_gym.experiments.results import read_results

    if not (options.preference or options.knee or options.max or options.min):
        raise UserError("say what to choose by: --preference, --max, --min or --knee")
    if options.scalarization and not options.preference:
        raise UserError("--scalarization says how a preference is read: give one with --preference")
    results = read_results(options.run_folder)
    for text in filter(None, (results.warning, results.caution)):
        console.print(text, style="yellow", markup=False, soft_wrap=True)
    episode = _choose(results, options)
    file = options.out or results.files.get(episode)
    if options.out:
        results.records[episode].strategy.save(options.out)
    title = str(file or f"episode {episode + 1}")
    columns = {"original": results.original, "chosen": results.records[episode].metrics}
    console.print(comparison(title, columns, {"accuracy": results.score}))
    if file is None:
        steps = {"The run has no file of this strategy": "write one with --out FILE.json"}
    else:
        steps = next_commands(file, results.score)
    for purpose, command in steps.items():
        console.print(f"{purpose}: {command}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _choose(results: "Results", options: argparse.Namespace) -> int:
    """Return the chosen episode, out of all that keep the limits."""
    import numpy as np

    from prune_gym.objectives.limits import satisfies
    from prune_gym.objectives.objective import weights_array
    from prune_gym.objectives.pareto import non_dominated
    from prune_gym.objectives.selection import best_for, knee_point

    names = [objective.name for objective in results.objectives]
    metrics = [record.metrics for record in results.records]
    most, least = (_limits(each, results.original) for each in (options.max, options.min))
    kept = np.flatnonzero(satisfies(metrics, most, least))
    kept = kept[non_dominated(results.returns[kept])]
    returns = results.returns[kept]
    if options.knee:
        return int(kept[knee_point(returns, names)])
    weights = options.preference or _free(names, least)
    return int(
        kept[best_for(returns, weights_array(weights, names), options.scalarization or "linear")]
    )


def _limits(given: list[tuple[str, float, bool]], original: dict[str, float]) -> dict[str, float]:
    """Return limits in natural units; a share of a cost is one of the original's.

    A share is a percentage, or a number of at most 1 of what is counted in whole pieces (FLOPs,
    parameters, bytes), which as a number of pieces would mean nothing.
    """
    names = [name for name, _, _ in given]
    if len(set(names)) < len(names):
        raise UserError(f"expected one limit per metric, got {', '.join(names)}")
    whole = original | {"accuracy": 1.0}
    limits = {}
    for name, value, percent in given:
        share = value / 100 if percent else value
        is_share = percent or (share <= 1 and unit_of(name) in COUNTED)
        limits[name] = share * whole.get(name, 1.0) if is_share else value
    return limits


def _free(names: list[str], least: dict[str, float]) -> dict[str, float]:
    """Return what is best where only limits are given.

    That is the most accurate; with a limit on accuracy itself, what saves most of all costs.
    """
    if "accuracy" in names and "accuracy" not in least:
        return {"accuracy": 1.0}
    return {name: 1.0 for name in names if name != "accuracy"} or {"accuracy": 1.0}
