"""What a search left in its run folder, read without making its environment again."""

import dataclasses
import json
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from prune_gym._utils.json_file import read_json
from prune_gym._utils.paths import write_atomically
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.errors import MissingFileError, RunError, UserError
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.experiments.evaluated_strategy import EvaluatedStrategy, evaluated_from_dict
from prune_gym.experiments.folder import ABOUT, CONFIG, JOURNAL, TASK, UNIFORM
from prune_gym.experiments.journal import read_journal
from prune_gym.experiments.provenance import about, differing, provenance, versions
from prune_gym.experiments.run_config import RunConfig, read_config
from prune_gym.models import leakage_warning
from prune_gym.objectives.objective import Objective, episode_return, weights_array
from prune_gym.objectives.pareto import non_dominated
from prune_gym.search_space.strategy import Strategy, finite_number, load_strategy


@dataclasses.dataclass(frozen=True)
class Results:
    """A run, finished or not.

    Attributes:
        path: its folder.
        config: what determined it: environment, agent, episodes, seed, ...
        objectives: of the reward, k of them.
        original: natural values of the original network by metric.
        reference: the episode return that hypervolume is measured from, ``(k,)``.
        versions: of the packages that the run last went on with.
        about: commit, processor, threads and number format that it last went on with; empty where
            an older version wrote it.
        weights: checksum of what candidates are made from; "" where an older version wrote it.
        caution: what to keep in mind with its accuracies, "" where nothing.
        records: the strategies of the finished episodes.
        uniform: the reference of its pictures, uniform strategies, the smallest ratio first; a run
            writes it at its end.
        warning: what is damaged in its journal, "" where nothing is.
    """

    path: Path
    config: RunConfig
    objectives: tuple[Objective, ...]
    original: dict[str, float]
    reference: np.ndarray
    versions: dict[str, str]
    about: dict[str, str]
    weights: str
    caution: str
    records: list[EvaluatedStrategy]
    uniform: list[EvaluatedStrategy]
    warning: str

    @property
    def score(self) -> str:
        """What accuracy is called: "mAP@0.5" where a detector's is that."""
        labels = {objective.name: objective.label for objective in self.objectives}
        return labels.get("accuracy", "accuracy")

    @cached_property
    def returns(self) -> np.ndarray:
        """The episode returns, ``(n, k)``."""
        metrics = (record.metrics for record in self.records)
        return np.array([episode_return(m, self.original, self.objectives) for m in metrics])

    @cached_property
    def front(self) -> list[int]:
        """The episodes on the front, most of the first objective first."""
        first = self.objectives[0]
        found = np.flatnonzero(non_dominated(self.returns)).tolist()
        return sorted(found, key=lambda i: -first.direction * self.records[i].metrics[first.metric])

    @cached_property
    def files(self) -> dict[int, Path]:
        """The strategy files under ``front/`` by episode; a run writes them at its end.

        Raises:
            UserError: one of them is damaged.
        """
        found = reversed([*enumerate(self.records)])
        episodes = {_content(record.strategy): i for i, record in found}
        paths = front_files(self.path)
        contents = [_content(load_strategy(path)) for path in paths]
        return {episodes[c]: p for c, p in zip(contents, paths, strict=True) if c in episodes}


def front_files(folder: Path) -> list[Path]:
    """Return the strategy files that a run has written; others in ``front/`` are people's own."""
    return sorted(p for p in (folder / "front").glob("*.json") if p.stem.isdecimal())


def caution_of(env: CompressionEnv) -> str:
    """Return what to keep in mind with an environment's accuracies, "" where nothing."""
    asked = env.spec.kwargs if env.spec else {}
    return leakage_warning(asked.get("network", ""), asked.get("data", ""))


def write_task(folder: Path, env: CompressionEnv) -> None:
    """Write what readers of a run folder need, so that they need not make the environment.

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
        "provenance": provenance(env.problem.evaluator),
    }
    write_atomically(folder / TASK, (json.dumps(task, indent=2) + "\n").encode())
    made_by = {"versions": versions(), **about()}
    write_atomically(folder / ABOUT, (json.dumps(made_by, indent=2) + "\n").encode())


def check_task(folder: Path, env: CompressionEnv) -> None:
    """Refuse to go on where accuracies are others now: a name may stand for another file tomorrow.

    A damaged ``task.json`` is told and written again: the journal has all that is evaluated.

    Raises:
        RunError: the run in the folder was started on other weights or data, another repair or
            another number format.
    """
    if not (folder / TASK).is_file():
        return
    try:
        task = _read(folder / TASK)
    except UserError as error:
        warnings.warn(
            f"{error}; it is written again, but whether weights and data are still those of the "
            "recorded episodes cannot be checked",
            stacklevel=2,
        )
        return
    before = {"weights": task["weights"]} if "weights" in task else {}
    before |= task.get("provenance", {})
    if changed := differing(before, env.problem.evaluator):
        raise RunError(
            f"{folder} was started with other {' and other '.join(changed)} under the same name, "
            "so its accuracies are not comparable with new ones; restore what it was, or give "
            "another --run"
        )


def changed_since_run(strategy_file: Path, evaluator: Evaluator) -> list[str]:
    """Return what decides accuracies and is not as it was in the run that wrote a strategy's file.

    The weights are left out, which a strategy names itself, and the number format, for which the
    comparison of accuracies has a tolerance. Of a file in no run folder nothing is known.
    """
    front = strategy_file.absolute().parent
    if front.name != "front" or not (front.parent / TASK).is_file():
        return []
    recorded = _read(front.parent / TASK).get("provenance", {})
    checked = ("data", "preprocessing", "repair")
    return differing({name: recorded[name] for name in checked if name in recorded}, evaluator)


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
            f"{folder} has no {TASK}, which older versions did not write; `prune-gym train` with "
            "the run's options and --resume adds it and evaluates nothing again"
        )
    config, task = read_config(folder / CONFIG), _read(folder / TASK)
    made_by = _read(folder / ABOUT) if (folder / ABOUT).is_file() else {}
    lines, warning = read_journal(folder / JOURNAL)
    records = [evaluated_from_dict(line, str(folder / JOURNAL)) for line in lines]
    sweep, _ = read_journal(folder / UNIFORM)
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
            {str(k): str(value) for k, value in made_by.items() if k != "versions" and value},
            str(task.get("weights", "")),
            str(task.get("caution", "")),
            records,
            [evaluated_from_dict(line, str(folder / UNIFORM)) for line in sweep],
            warning,
        )
        _check(results)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder / TASK} is damaged at {error!r}; `prune-gym train --resume` writes it again"
        ) from error
    if config.preference:
        try:
            weights_array(config.preference, [each.name for each in results.objectives])
        except UserError as error:
            raise UserError(f"{folder / CONFIG} is damaged: preference: {error}") from error
    return results


def _check(results: Results) -> None:
    """Raise ``KeyError``, ``TypeError`` or ``ValueError`` where the task is not of the records."""
    if not results.objectives:
        raise ValueError("no objectives")
    for objective in results.objectives:
        for field in dataclasses.fields(objective):
            if not isinstance(getattr(objective, field.name), cast(type, field.type)):
                raise TypeError(f"{field.name} of an objective")
        if objective.direction not in (1, -1):
            raise ValueError("direction of an objective")
        if objective.direction < 0 and results.original[objective.metric] <= 0:
            raise ValueError(f"{objective.metric} of the original")
    for value in (*results.original.values(), *results.reference.tolist()):
        finite_number(value)
    for record in (*results.records, *results.uniform):
        if missing := record.metrics.keys() - results.original.keys():
            raise KeyError(min(missing))
    for record in (results.records[0], *results.uniform):
        if missing := {o.metric for o in results.objectives} - record.metrics.keys():
            raise KeyError(min(missing))
    if results.returns.shape[1:] != results.reference.shape:
        raise ValueError("reference_point")


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: expected an object, got {type(content).__name__}")
    return content


def _content(strategy: Strategy) -> str:
    return json.dumps(strategy.as_dict(), sort_keys=True)
