"""The front of a search, as a table."""

from rich.table import Table

from prune_gym._utils.formatting import format_metric
from prune_gym.experiments.evaluated_strategy import EvaluatedStrategy
from prune_gym.experiments.record import RecordRun
from prune_gym.objectives.objective import Objective

ROWS = 15  # of a longer front evenly spaced ones are shown


def front_table(env: RecordRun) -> Table:
    """Return the original network and strategies of the front, with their files."""
    front, objectives = env.front(), env.problem.objectives
    original = env.problem.original
    shown = list(range(len(front)))
    if len(front) > ROWS:
        shown = [i * (len(front) - 1) // (ROWS - 1) for i in range(ROWS)]
    title = f"The front ({len(shown)} of {len(front)} strategies)"
    table = Table(title=title, show_edge=False, pad_edge=False)  # 4 objectives fit 80 columns
    table.add_column("strategy", no_wrap=True)
    for objective in objectives:
        table.add_column(objective.label, justify="right", no_wrap=True)
    values = (format_metric(original[each.metric], each.metric) for each in objectives)
    table.add_row("original", *values, style="bold")
    for number in shown:
        cells = (_cell(each, front[number], original) for each in objectives)
        table.add_row(f"front/{number:03d}.json", *cells)
    return table


def _cell(objective: Objective, record: EvaluatedStrategy, original: dict[str, float]) -> str:
    value = record.metrics[objective.metric]
    shown = format_metric(value, objective.metric)
    if objective.direction > 0:
        return shown
    return f"{shown} ({100 * value / original[objective.metric]:.0f} %)"
