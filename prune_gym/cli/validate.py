"""``prune-gym validate``: are a strategy's numbers reproduced here?"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from prune_gym.cli.functions import add_functions, functions

HELP = "replay a strategy and check its numbers"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("strategy", type=Path, metavar="STRATEGY.json")
    add_functions(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Print every claim and what was found; 1 where one is not reproduced."""
    from prune_gym._utils.formatting import format_metric
    from prune_gym.cli.comparison import plain
    from prune_gym.envs.replay import environment_named
    from prune_gym.experiments.results import changed_since_run
    from prune_gym.search_space.strategy import load_strategy

    strategy = load_strategy(options.strategy)
    env = environment_named(strategy, **functions(options))
    result, score = env.problem.validate(strategy), env.problem.evaluator.data.metric_name
    table = Table("metric", "claimed", "found here", "", title=plain(str(options.strategy)))
    for claim in result.claims:
        verdict = "reproduced" if claim.reproduced else "NOT reproduced"
        claimed, found = (format_metric(v, claim.name) for v in (claim.claimed, claim.found))
        name = score if claim.name == "accuracy" else claim.name
        table.add_row(plain(name), claimed, found, verdict)
    console.print(table)
    if not result.same_weights:
        console.print("NOT reproduced: the strategy was found on other weights", style="yellow")
    changed = changed_since_run(options.strategy, env.problem.evaluator)
    if changed:
        said = f"NOT reproduced: the run had other {' and other '.join(changed)}"
        console.print(said, style="yellow", markup=False, highlight=False, soft_wrap=True)
    return 0 if result.reproduced and not changed else 1
