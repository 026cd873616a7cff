"""The page: what the runs hold as data, put into a template with its script and style."""

import html
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from prune_gym._utils.formatting import format_change, format_metric, unit_of
from prune_gym.errors import UserError
from prune_gym.experiments.commands import commands_of, train_command
from prune_gym.experiments.provenance import about, versions
from prune_gym.experiments.results import Results
from prune_gym.objectives.objective import Objective, weights_array
from prune_gym.objectives.pareto import hypervolume
from prune_gym.objectives.preferences import balanced
from prune_gym.objectives.selection import knee_point

LABELS = {
    "flops": "multiply-adds (flops)",
    "params": "parameters",
    "memory_bytes": "memory",
    "latency_ms": "latency",
    "energy_mj": "energy",
    "size_bytes": "size",
}
SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def report_page(runs: Sequence[Results]) -> str:
    """Return runs of one task as one HTML page, which loads nothing.

    Raises:
        UserError: the runs searched different tasks, or one of their files is damaged.
    """
    _require_one_task(runs)
    title = f"{runs[0].config.env}: what the search found"
    parts = {
        "TITLE": html.escape(title),
        "STYLE": _asset("style.css"),
        "SCRIPT": _asset("chart.js") + _asset("page.js"),
        # "<" would let a name end the script element.
        "DATA": json.dumps(page_data(runs), allow_nan=False).replace("<", "\\u003c"),
    }
    page = _asset("template.html")
    for name, content in parts.items():
        page = page.replace(f"@{name}@", content)
    return page


def page_data(runs: Sequence[Results]) -> dict[str, Any]:
    """Return what the page shows, as plain data."""
    first = runs[0]
    names = [objective.name for objective in first.objectives]
    weights = weights_array(first.config.preference or balanced(names), names)
    start = knee_point(first.returns, names)
    metrics = list(first.records[0].metrics)
    labels = LABELS | {"accuracy": first.score}
    return {
        "objectives": [
            {**_axis(objective, first.original), "column": metrics.index(objective.metric)}
            for objective in first.objectives
        ],
        "metrics": [labels.get(metric, metric) for metric in metrics],
        "original": {
            "values": [first.original[objective.metric] for objective in first.objectives],
            "text": [format_metric(first.original[metric], metric) for metric in metrics],
        },
        "priorities": ", ".join(
            f"{o.label} {w:.2g}" for o, w in zip(first.objectives, weights, strict=True)
        ),
        "start": first.front.index(start),
        "runs": [_run(run, metrics, weights) for run in runs],
        "uniform": [
            [each.metrics[o.metric] for o in run.objectives] for run in runs for each in run.uniform
        ],
        "versions": versions() | about(),
    }


def _require_one_task(runs: Sequence[Results]) -> None:
    first = runs[0]
    for run in runs[1:]:
        for what, mine, other in (
            ("environment", run.config.env, first.config.env),
            *(
                (name, *(r.config.env_kwargs.get(name, "the id's") for r in (run, first)))
                for name in ("network", "data")
            ),
            ("objectives", *([o.name for o in r.objectives] for r in (run, first))),
        ):
            if mine != other:
                raise UserError(
                    f"one page compares runs of one task; {what} of {run.path}: {mine}, of "
                    f"{first.path}: {other}; make a page of each"
                )


def _axis(objective: Objective, original: dict[str, float]) -> dict[str, Any]:
    """Return an objective's name, its axis' label, and the value that is 1 there."""
    if objective.name == "accuracy":
        label = f"{objective.label} on the search split [%]"
        return {"name": objective.label, "label": label, "scale": 0.01}
    value = original[objective.metric]
    scale, letter = next((s for s in SCALES if value >= s[0]), (1.0, ""))
    unit = unit_of(objective.metric) or f" {objective.unit}"
    return {
        "name": objective.name,
        "label": f"{objective.name} [{(letter + unit).strip()}]",
        "scale": scale,
    }


def _run(run: Results, metrics: list[str], weights: np.ndarray) -> dict[str, Any]:
    keys = {
        (d["kind"], d["name"]): d["of"]
        for record in sorted(run.records, key=lambda r: -len(r.strategy.decisions))
        for d in record.strategy.decisions
    }
    on_front = set(run.front)
    rest = [record for i, record in enumerate(run.records) if i not in on_front]
    return {
        "name": str(run.path),
        "agent": run.config.agent,
        "command": train_command(run),
        "episodes": len(run.records),
        "planned": run.config.episodes,
        "warnings": [text for text in (run.warning, run.caution) if text],
        "versions": run.versions | run.about,
        "decisions": [[kind, name, of] for (kind, name), of in keys.items()],
        "evaluated": [[each.metrics[o.metric] for o in run.objectives] for each in rest],
        "front": [_point(run, episode, metrics, list(keys)) for episode in run.front],
        "hypervolume": _volumes(run),
        "reward": np.maximum.accumulate(run.returns @ weights).tolist(),
    }


def _point(
    run: Results, episode: int, metrics: list[str], keys: list[tuple[str, str]]
) -> dict[str, Any]:
    record, file = run.records[episode], run.files.get(episode)
    values = record.strategy.values
    return {
        "name": f"front/{file.name}" if file else f"episode {episode + 1}",
        "values": [record.metrics[objective.metric] for objective in run.objectives],
        "text": [format_metric(record.metrics[metric], metric) for metric in metrics],
        "change": [
            format_change(run.original[metric], record.metrics[metric], metric)
            for metric in metrics
        ],
        "decisions": [values.get(key) for key in keys],
        "commands": list(commands_of(run, episode).items()),
    }


def _volumes(run: Results) -> list[float]:
    """Return the hypervolume after every episode."""
    return [hypervolume(run.returns[: i + 1], run.reference) for i in range(len(run.returns))]


def _asset(name: str) -> str:
    return (
        resources.files("prune_gym.experiments.report").joinpath(name).read_text(encoding="utf-8")
    )
