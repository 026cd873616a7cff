"""From ``results.csv`` to statistics over seeds: what the table and the plots show."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prune_gym.errors import MissingFileError, UserError
from prune_gym.experiments.benchmark.collect import DIGITS, RESULT, RESULTS, SECONDS
from prune_gym.experiments.benchmark.statistics import (
    Interval,
    bootstrap,
    interquartile_mean,
    interval,
)


@dataclass(frozen=True)
class Curve:
    """The hypervolume of one agent on one environment over evaluations.

    Attributes:
        evaluations: checkpoints, ``int (n,)``.
        volumes: one row per seed, ``(seeds, n)``.
    """

    evaluations: np.ndarray
    volumes: np.ndarray

    def band(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the interquartile mean and the ends of its interval, ``(n,)`` each."""
        return interquartile_mean(self.volumes), *bootstrap(self.volumes)

    def after(self, evaluations: int) -> np.ndarray:
        """Return each seed's hypervolume at a checkpoint, ``(seeds,)``."""
        return self.volumes[:, self.evaluations.tolist().index(evaluations)]

    def reaching(self, target: float) -> np.ndarray:
        """Return the evaluations until each seed has a hypervolume, ``(seeds,)``; inf if never."""
        half_a_digit = 0.5 * 10**-DIGITS  # a mean of equal numbers may be above them
        reached = self.volumes >= target - half_a_digit
        first = self.evaluations[reached.argmax(axis=1)].astype(np.float64)
        return np.where(reached.any(axis=1), first, np.inf)


@dataclass(frozen=True)
class Summary:
    """One agent on one environment.

    Attributes:
        agent: its name.
        curve: hypervolume over evaluations.
        final: figures at the end by column of the CSV, one value per seed; only those it has.
        seconds: processor time beside evaluations, one value for each seed that ran in one go.
        proposals: where its answers for preferences come from: "policy" or "archive".
    """

    agent: str
    curve: Curve
    final: Mapping[str, np.ndarray]
    proposals: str
    seconds: np.ndarray

    @property
    def hypervolume(self) -> Interval:
        """The final hypervolume."""
        return interval(self.final["hypervolume"])


def read_summaries(folder: Path) -> dict[str, list[Summary]]:
    """Return the agents of every environment, most hypervolume first.

    Raises:
        MissingFileError: no results.
        UserError: the file is damaged, or the seeds of an agent differ in length.
    """
    file = folder / RESULTS
    if not file.is_file():
        raise MissingFileError(f"{folder} has no {RESULTS}: run `prune-gym benchmark` first")
    cells: dict[tuple[str, str], dict[int, list[dict[str, str]]]] = {}
    with file.open(newline="", encoding="utf-8-sig") as lines:  # spreadsheets add a mark
        reader = csv.DictReader(lines)
        if reader.fieldnames is None or set(RESULT) - set(reader.fieldnames):
            raise UserError(f"{file}: expected the columns {', '.join(RESULT)}")
        for row in reader:
            seeds = cells.setdefault((row["env"], row["agent"]), {})
            seeds.setdefault(int(row["seed"]), []).append(row)
    if not cells:
        raise UserError(f"{file} has no rows")
    summaries: dict[str, list[Summary]] = {}
    seconds = _seconds(folder / SECONDS)
    for (env, agent), seeds in cells.items():
        ordered = [sorted(rows, key=lambda row: int(row["evaluations"])) for rows in seeds.values()]
        taken = np.array(seconds.get((env, agent), []))
        summaries.setdefault(env, []).append(_summary(agent, ordered, taken))
    return {env: sorted(s, key=lambda s: -s.hypervolume.point) for env, s in summaries.items()}


def _seconds(file: Path) -> dict[tuple[str, str], list[float]]:
    """Return the seconds of each environment's agents, of the seeds that have any."""
    found: dict[tuple[str, str], list[float]] = {}
    if file.is_file():
        with file.open(newline="", encoding="utf-8-sig") as lines:
            for row in csv.DictReader(lines):
                found.setdefault((row["env"], row["agent"]), []).append(float(row["agent_seconds"]))
    return found


def _summary(agent: str, seeds: list[list[dict[str, str]]], seconds: np.ndarray) -> Summary:
    if len({len(rows) for rows in seeds}) > 1:
        raise UserError(f"{agent}: expected as many checkpoints of every seed; collect them again")
    curve = Curve(
        np.array([int(row["evaluations"]) for row in seeds[0]]),
        np.array([[float(row["hypervolume"]) for row in rows] for rows in seeds]),
    )
    last = [rows[-1] for rows in seeds]
    numbers = [name for name in RESULT[4:] if name != "proposals" and last[0][name]]
    final = {name: np.array([float(row[name]) for row in last]) for name in numbers}
    return Summary(agent, curve, final, last[0]["proposals"], seconds)


def best_rival(summary: Summary, all_of_them: list[Summary]) -> Summary | None:
    """Return the other agent with the most hypervolume; None where there is no other."""
    return next((other for other in all_of_them if other.agent != summary.agent), None)
