"""What a search left in its run folder, read without making its environment again."""

import dataclasses
import json
import platform
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from prune_gym._utils.paths import write_atomically
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.errors import MissingFileError, RunError, UserError
from prune_gym.experiments.folder import CONFIG, CONFIGURATION, JOURNAL, TASK
from prune_gym.experiments.journal import read_journal
from prune_gym.models import leakage_warning
from prune_gym.objectives.objective import Objective, episode_return
from prune_gym.objectives.pareto import non_dominated
from prune_gym.search_space.strategy import load_strategy

PACKAGES = ("prune-gym", "torch", "numpy", "gymnasium", "stable-baselines3")


@dataclasses.dataclass(frozen=True)
class Results:
    """A run, finished or not.

    Attributes:
        path: its folder.
        config: what determined it: environment, agent, episodes, seed.
        objectives: of the reward, k of them.
        original: natural values of the original network by metric.
        reference: the episode return that hypervolume is measured from, ``(k,)``.
        versions: of the packages that the run last went on with.
        weights: checksum of what candidates are made from; "" where an older version wrote it.
        caution: what to keep in mind with its accuracies, "" where nothing.
        records: one per finished episode: natural values by metric, and the strategy.
        warning: what is damaged in its journal, "" where nothing is.
    """

    path: Path
    config: dict[str, Any]
    objectives: tuple[Objective, ...]
    original: dict[str, float]
    reference: np.ndarray
    versions: dict[str, str]
    weights: str
    caution: str
    records: list[dict[str, Any]]
    warning: str

    @property
    def score(self) -> str:
        """What accuracy is called: "mAP@0.5" where a detector's is that."""
        labels = {objective.name: objective.label for objective in self.objectives}
        return labels.get("accuracy", "accuracy")

    @cached_property
    def returns(self) -> np.ndarray:
        """The episode returns, ``(n, k)``."""
        rows = [episode_return(record, self.original, self.objectives) for record in self.records]
        return np.array(rows)

    @cached_property
    def front(self) -> list[int]:
        """The episodes on the front, most of the first objective first."""
        first = self.objectives[0]
        found = np.flatnonzero(non_dominated(self.returns)).tolist()
        return sorted(found, key=lambda i: -first.direction * self.records[i][first.metric])

    @cached_property
    def files(self) -> dict[int, Path]:
        """The strategy files under ``front/`` by episode; a run writes them at its end.

        Raises:
            UserError: one of them is damaged.
        """
        episodes = {_content(r["strategy"]): i for i, r in reversed([*enumerate(self.records)])}
        paths = front_files(self.path)
        contents = [_content(load_strategy(path).as_dict()) for path in paths]
        return {episodes[c]: p for c, p in zip(contents, paths, strict=True) if c in episodes}


def front_files(folder: Path) -> list[Path]:
    """Return the strategy files that a run has written; others in ``front/`` are people's own."""
    return sorted(p for p in (folder / "front").glob("*.json") if p.stem.isdecimal())


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def caution_of(env: CompressionEnv) -> str:
    """Return what to keep in mind with an environment's accuracies, "" where nothing."""
    asked = env.spec.kwargs if env.spec else {}
    return leakage_warning(asked.get("network", ""), asked.get("data", ""))


def write_task(folder: Path, env: CompressionEnv) -> None:
    """Write what readers of a run folder would else have to make the environment for.

    Raises:
        OSError: the folder cannot be written.
    """
    task = {
        "objectives": [dataclasses.asdict(objective) for objective in env.objectives],
        "original": env.problem.original,
        "reference_point": env.problem.reference_point.tolist(),
        "versions": versions(),
        "weights": env.problem.evaluator.checksum,
        "caution": caution_of(env),
    }
    write_atomically(folder / TASK, (json.dumps(task, indent=2) + "\n").encode())


def check_weights(folder: Path, env: CompressionEnv) -> None:
    """Refuse to go on with other weights: the same name may stand for another file tomorrow.

    Raises:
        RunError: the run in the folder is of candidates that are made from other weights.
    """
    if not (folder / TASK).is_file():
        return
    before = _read(folder / TASK).get("weights", env.problem.evaluator.checksum)
    if before != env.problem.evaluator.checksum:
        raise RunError(
            f"{folder} was started with other weights under the same name (checksum {before[:8]}, "
            f"now {env.problem.evaluator.checksum[:8]}); give another folder"
        )


def read_results(folder: Path) -> Results:
    """Read a run folder; the run may still be going on.

    Raises:
        MissingFileError: no run folder, or one of an older version.
        UserError: one of its files is damaged, or no episode is finished.
    """
    if not (folder / CONFIG).is_file():
        raise MissingFileError(f"{folder} is no run folder: it has no {CONFIG}")
    if not (folder / TASK).is_file():
        raise MissingFileError(
            f"{folder} has no {TASK}, which older versions did not write; train.py with the run's "
            "options and --resume adds it and evaluates nothing again"
        )
    config, task = _read(folder / CONFIG), _read(folder / TASK)
    if missing := [key for key in CONFIGURATION if key not in config]:
        raise UserError(f"{folder / CONFIG} is damaged: it lacks {', '.join(missing)}")
    if not isinstance(config["env_kwargs"], dict):
        raise UserError(f"{folder / CONFIG} is damaged: env_kwargs is {config['env_kwargs']!r}")
    records, warning = read_journal(folder / JOURNAL)
    if not records:
        raise UserError(f"{folder}: no episode is finished yet; {warning or 'wait for the first'}")
    try:
        results = Results(
            folder,
            config,
            tuple(Objective(**objective) for objective in task["objectives"]),
            dict(task["original"]),
            np.array(task["reference_point"], dtype=np.float64),
            dict(task["versions"]),
            str(task.get("weights", "")),
            str(task.get("caution", "")),
            records,
            warning,
        )
        results.returns @ results.reference  # they are of one size
        return results
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / TASK} is damaged at {error!r}; train.py with --resume writes it again"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged: it is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: expected an object, got {type(content).__name__}")
    return content


def _content(strategy: dict[str, Any]) -> str:
    return json.dumps(strategy, sort_keys=True)
