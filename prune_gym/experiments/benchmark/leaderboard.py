"""The leaderboard: results of anybody's benchmark whose fronts were measured again here."""

import csv
import dataclasses
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np

from envs_registry import env_ids
from prune_gym import __version__
from prune_gym._utils.paths import write_atomically
from prune_gym.errors import UserError, unknown
from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.evaluation.validation import Claim
from prune_gym.experiments.benchmark.cells import Cell, find_cells
from prune_gym.experiments.benchmark.collect import DIGITS
from prune_gym.experiments.benchmark.figures import utility_curve
from prune_gym.experiments.benchmark.preferences import preference_grid
from prune_gym.experiments.benchmark.statistics import interval
from prune_gym.experiments.folder import CONFIG, JOURNAL
from prune_gym.experiments.results import Results, read_results
from prune_gym.objectives.objective import episode_return
from prune_gym.objectives.pareto import hypervolume
from prune_gym.search_space.strategy import finite_number


@dataclass(frozen=True)
class Entry:
    """A row of the leaderboard: one agent on one environment.

    Attributes:
        env: environment id.
        evaluations: strategies that each seed evaluated.
        agent: its name.
        seeds: how many.
        hypervolume: of the fronts, interquartile mean over seeds.
        low: lower end of its 95 % bootstrap interval.
        high: upper end of the interval.
        expected_utility: of the fronts, interquartile mean over seeds.
        version: of this package when the fronts were measured again.
    """

    env: str
    evaluations: int
    agent: str
    seeds: int
    hypervolume: float
    low: float
    high: float
    expected_utility: float
    version: str

    @property
    def key(self) -> tuple[str, int, str]:
        """What a later entry replaces."""
        return self.env, self.evaluations, self.agent


COLUMNS = tuple(field.name for field in dataclasses.fields(Entry))


@dataclass(frozen=True)
class Replay:
    """What was found for the front of one cell.

    Attributes:
        cell: which one.
        hypervolume: of what was measured here.
        expected_utility: of what was measured here.
        refuted: claims that were not reproduced.
        same_weights: whether all strategies were found on the weights that are used here.
    """

    cell: Cell
    hypervolume: float
    expected_utility: float
    refuted: tuple[Claim, ...]
    same_weights: bool

    @property
    def reproduced(self) -> bool:
        """Whether every claim was, on the same weights."""
        return self.same_weights and not self.refuted


@dataclass(frozen=True)
class Submission:
    """A finished cell that may enter the leaderboard once its front is reproduced.

    Attributes:
        cell: which one.
        results: what it claims.
    """

    cell: Cell
    results: Results

    def replay(self, problem: CompressionProblem, measured: Callable[[], None]) -> Replay:
        """Measure the strategies of its front again, as ``prune-gym validate`` does.

        What is not on the front changes neither figure and is not measured.

        Args:
            problem: of the cell's environment.
            measured: called after every strategy.

        Raises:
            UserError: a strategy is not one of the environment.
        """
        returns, refuted, same_weights = [], list[Claim](), True
        for record in (self.results.records[i] for i in self.results.front):
            claimed = dataclasses.replace(record.strategy, metrics=dict(record.metrics))
            try:
                result = problem.validate(claimed)
            except UserError as error:
                raise UserError(f"{self.results.path / JOURNAL}: {error}") from error
            found = {claim.name: claim.found for claim in result.claims}
            returns.append(episode_return(found, problem.original, problem.objectives))
            refuted += [claim for claim in result.claims if not claim.reproduced]
            same_weights = same_weights and result.same_weights
            measured()
        front = np.array(returns)
        (utility,) = utility_curve(front, [len(front)], preference_grid(front.shape[1]))
        volume = hypervolume(front, problem.reference_point)
        return Replay(self.cell, volume, utility, tuple(refuted), same_weights)


def read_submissions(root: Path) -> list[Submission]:
    """Read the finished cells of a benchmark's folder, which may be anybody's.

    The environment must be a published id with a vector reward and without other arguments, so
    nothing in a file names code.

    Raises:
        MissingFileError: there are none.
        UserError: a file is damaged; a cell is of another environment, or not as long as it says.
    """
    submissions = []
    published = [name for name in env_ids() if not gym.spec(name).additional_wrappers]
    for cell in find_cells(root):
        config = cell.folder / CONFIG
        if cell.env not in published:
            raise UserError(f"{config}: {unknown('environment', cell.env, published)}")
        if cell.env_kwargs:
            raise UserError(
                f"{config}: expected a published environment as it is, got one with "
                f"{', '.join(sorted(cell.env_kwargs))}; run the benchmark without these options"
            )
        results = read_results(cell.folder)
        if len(results.records) != cell.evaluations:
            raise UserError(
                f"{cell.folder / JOURNAL}: expected {cell.evaluations} evaluated strategies, got "
                f"{len(results.records)}; run the cell again"
            )
        submissions.append(Submission(cell, results))
    return submissions


def make_entries(replays: Iterable[Replay]) -> list[Entry]:
    """Return an entry per environment, agent and number of evaluations."""
    seeds: dict[tuple[str, int, str], list[Replay]] = {}
    for each in replays:
        seeds.setdefault((each.cell.env, each.cell.evaluations, each.cell.agent), []).append(each)
    return [
        Entry(
            *key,
            len(cells),
            *interval(np.array([each.hypervolume for each in cells])),
            interval(np.array([each.expected_utility for each in cells])).point,
            __version__,
        )
        for key, cells in seeds.items()
    ]


def add_entries(path: Path, entries: Sequence[Entry]) -> list[Entry]:
    """Write entries into a leaderboard's CSV file; return all of it, in its order.

    An entry takes the place of an earlier one of the same agent, environment and evaluations.

    Raises:
        UserError: the file is there and is no leaderboard.
    """
    before = read_leaderboard(path) if path.exists() else []
    board = {entry.key: entry for entry in (*before, *entries)}
    ordered = sorted(board.values(), key=lambda e: (e.env, e.evaluations, -e.hypervolume, e.agent))
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    for entry in ordered:
        row = dataclasses.asdict(entry)
        writer.writerow(
            {n: f"{v:.{DIGITS}f}" if isinstance(v, float) else v for n, v in row.items()}
        )
    write_atomically(path, table.getvalue().encode())
    return ordered


def read_leaderboard(path: Path) -> list[Entry]:
    """Return the entries of a leaderboard's CSV file.

    Raises:
        UserError: it is no leaderboard; says why.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:  # spreadsheets add a mark
            header, *rows = csv.reader(lines, strict=True)
        if tuple(header) != COLUMNS:
            raise UserError(f"expected the columns {', '.join(COLUMNS)}")
        return [_entry(row) for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} is no leaderboard: {error}") from error


def _entry(row: list[str]) -> Entry:
    if len(row) != len(COLUMNS):
        raise UserError(f"expected {len(COLUMNS)} columns in every row, got {len(row)}")
    env, evaluations, agent, seeds, *figures, version = row
    volume, low, high, utility = (finite_number(float(text)) for text in figures)
    return Entry(env, int(evaluations), agent, int(seeds), volume, low, high, utility, version)
