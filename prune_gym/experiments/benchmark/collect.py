"""From the run folders of finished cells to tidy CSV files."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prune_gym._utils.json_file import read_json
from prune_gym._utils.paths import write_atomically
from prune_gym.errors import UserError
from prune_gym.experiments.benchmark.cells import FINISHED, RUNS, Cell, find_cells
from prune_gym.experiments.benchmark.figures import (
    checkpoints,
    hypervolume_curve,
    proposed_utility,
    utility_curve,
)
from prune_gym.experiments.results import Results, read_results
from prune_gym.objectives.objective import KNOWN
from prune_gym.objectives.pareto import hypervolume

RESULTS, EVALUATIONS, PROPOSALS = "results.csv", "evaluations.csv", "proposals.csv"
SECONDS = "seconds.csv"  # a file of its own: all others come out the same when cells run again
ABOUT = "about.json"
CELL = ("env", "agent", "seed")
AT_THE_END = (
    "proposals",
    "proposed_hypervolume",
    "proposed_utility",
    "true_hypervolume",
)
DIGITS = 6  # behind the point
RESULT = (*CELL, "evaluations", "hypervolume", "expected_utility", *AT_THE_END)
EVALUATION = (*CELL, "evaluation", *KNOWN)
SECOND = (*CELL, "agent_seconds")
PROPOSAL = (*CELL, "proposals", *(f"weight_{name}" for name in KNOWN), *KNOWN)


def collect(root: Path) -> None:
    """Write the CSV files of all finished cells in a folder; each file appears whole.

    Raises:
        MissingFileError: no cell is finished.
        UserError: a file of a cell is damaged, or cells of an environment have other weights.
    """
    columns = {RESULTS: RESULT, EVALUATIONS: EVALUATION, PROPOSALS: PROPOSAL, SECONDS: SECOND}
    tables: dict[str, list[dict[str, Any]]] = {file: [] for file in columns}
    used: dict[str, set[str]] = {}
    about: dict[str, set[str]] = {}
    arguments: dict[str, Any] = {}
    weights: dict[str, str] = {}
    for cell in find_cells(root):
        results, outcome = read_results(cell.folder), _outcome(cell)
        if results.weights and weights.setdefault(cell.env, results.weights) != results.weights:
            raise UserError(
                f"{root}: cells of {cell.env} were made with different weights under the same name "
                f"({cell} is one); delete those of the old weights under {root / RUNS}"
            )
        tables[RESULTS] += _result_rows(cell, results, outcome)
        tables[EVALUATIONS] += _evaluation_rows(cell, results)
        tables[PROPOSALS] += _proposal_rows(cell, results, outcome)
        if (seconds := outcome.get("agent_seconds")) is not None:
            tables[SECONDS].append({**_named(cell), "agent_seconds": seconds})
        for name, version in results.versions.items():
            used.setdefault(name, set()).add(version)
        for name, value in results.about.items():
            about.setdefault(name, set()).add(value)
        arguments |= cell.env_kwargs
    made_by: dict[str, Any] = {"versions": _joined(used), **_joined(about)}
    if arguments:
        made_by["env_kwargs"] = arguments
    write_atomically(root / ABOUT, (json.dumps(made_by, indent=2) + "\n").encode())
    for file, rows in tables.items():
        _write(root / file, columns[file], rows)


def _joined(found: dict[str, set[str]]) -> dict[str, str]:
    return {name: " and ".join(sorted(values)) for name, values in found.items()}


def _outcome(cell: Cell) -> dict[str, Any]:
    file = cell.folder / FINISHED
    try:
        return read_json(file)
    except UserError as error:
        raise UserError(f"{file} is damaged ({error}); delete it and run the cell again") from None


def _named(cell: Cell) -> dict[str, Any]:
    return {"env": cell.env, "agent": cell.agent, "seed": cell.seed}


def _result_rows(cell: Cell, results: Results, outcome: dict[str, Any]) -> Iterable[dict[str, Any]]:
    counts, grid = checkpoints(len(results.returns)), np.array(outcome["preferences"])
    volumes = hypervolume_curve(results.returns, counts, results.reference)
    utilities = utility_curve(results.returns, counts, grid)
    rows: list[dict[str, Any]] = [
        {**_named(cell), "evaluations": n, "hypervolume": volume, "expected_utility": utility}
        for n, volume, utility in zip(counts, volumes, utilities, strict=True)
    ]
    proposed, front = np.array(outcome["proposed"]), outcome["true_front"]
    rows[-1] |= {
        "proposals": outcome["source"],
        "proposed_hypervolume": hypervolume(proposed, results.reference),
        "proposed_utility": proposed_utility(proposed, grid),
    }
    if front is not None:
        rows[-1]["true_hypervolume"] = hypervolume(np.array(front), results.reference)
    return rows


def _evaluation_rows(cell: Cell, results: Results) -> Iterable[dict[str, Any]]:
    names = [objective.name for objective in results.objectives]
    for number, returns in enumerate(results.returns.tolist(), 1):
        values = dict(zip(names, returns, strict=True))
        yield {**_named(cell), "evaluation": number, **values}


def _proposal_rows(
    cell: Cell, results: Results, outcome: dict[str, Any]
) -> Iterable[dict[str, Any]]:
    names = [objective.name for objective in results.objectives]
    for weights, returns in zip(outcome["preferences"], outcome["proposed"], strict=True):
        row = {f"weight_{name}": weight for name, weight in zip(names, weights, strict=True)}
        values = dict(zip(names, returns, strict=True))
        yield {**_named(cell), "proposals": outcome["source"], **row, **values}


def _write(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _rounded(value) for name, value in row.items()})
    write_atomically(path, table.getvalue().encode())


def _rounded(value: Any) -> Any:
    """Return floats with six decimals: more would only be the last digits of sums."""
    return f"{value:.{DIGITS}f}" if isinstance(value, float) else value
