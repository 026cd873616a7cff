"""Predict the accuracy of strategies on networks of a family that was left out.

    python benchmarks/prior.py DIR [--fronts ChannelPrune-Table-v0 ...]

DIR is what ``benchmarks/prior_data.py`` made. The predictors of a family learn from the others. The
first figure is the rank correlation with the measured accuracy, the second the mean absolute error
of the accuracy. "own curve" knows the curve of the plain sum that fits the very network best.

Then the fronts of 20 strategies that are proposed before any evaluation: by ``sensitivity``, by the
same plan with what the linear predictor makes of the sensitivities, random and uniform ratios.
"""

import argparse
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from prior_data import FAMILIES, IDS, problem_of
from safetensors.numpy import load_file
from scipy.optimize import minimize
from scipy.stats import spearmanr
from sklearn.ensemble import HistGradientBoostingRegressor

from prune_gym.agents.common.initial_design import random_ratio, van_der_corput
from prune_gym.agents.sensitivity.order import SCALE
from prune_gym.agents.sensitivity.outlook import LARGEST_SHARE, shares_lost
from prune_gym.agents.sensitivity.sensitivity import planned
from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.objectives.pareto import hypervolume
from prune_gym.search_space import SearchSpace

LEAST = 0.5  # accuracy of an original that was worth training
SAMPLE = 40  # strategies of a task at most, so that none counts for more
STEPS, RATE, DECAY = 150, 0.05, 3.0
FRONT, SEEDS = 20, 3
Predictor = Callable[["Task"], np.ndarray]


@dataclass(frozen=True)
class Task:
    """Evaluated strategies of one network in one space.

    Attributes:
        name: of the task.
        family: of its network.
        lost: energies that the decisions of every strategy lose, ``(n, decisions)``.
        about: what is known of every decision, ``(decisions, features)``.
        accuracy: of every strategy, ``(n,)``.
        original: the original's accuracy.
        chance: that of guessing.
    """

    name: str
    family: str
    lost: np.ndarray
    about: np.ndarray
    accuracy: np.ndarray
    original: float
    chance: float

    @property
    def kept(self) -> np.ndarray:
        """What strategies keep of the accuracy above chance, in [0, 1], ``(n,)``."""
        return np.clip((self.accuracy - self.chance) / (self.original - self.chance), 0, 1)

    @property
    def summaries(self) -> np.ndarray:
        """What trees see of every strategy, ``(n, features)``."""
        ordered, weighted = np.sort(self.lost, axis=1), self.lost @ self.about
        fixed = [self.lost.shape[1], self.original, *self.about.mean(axis=0)]
        return np.column_stack(
            [ordered[:, [-1, 0]], np.median(ordered, 1), self.lost.sum(1), weighted]
            + [np.full(len(self.lost), value) for value in fixed]
        )


def load(name: str, folder: Path) -> Task:
    """Return a task of the folder."""
    data = load_file(folder / f"{name}.data.safetensors")
    problem, values = problem_of(name, folder), data["values"]
    lost = -np.log1p(-np.minimum(shares_lost(problem.space, values), LARGEST_SHARE))
    chance, original = problem.evaluator.data.chance, float(data["original"][0])
    about = describe(problem, original)
    return Task(name, family_of(name), lost, about, data["accuracies"], original, chance)


def describe(problem: CompressionProblem, original: float) -> np.ndarray:
    """Return what the environment shows of every decision, ``(decisions, features)``."""
    table, configuration = problem.evaluator.table, problem.original_configuration
    weights = table.weights(configuration)[0]
    flops = weights * table.weighted_pixels
    column = {index: at for at, index in enumerate(table.weighted)}
    rows = []
    for decision in problem.decisions:
        layer, at = table.layers[decision.layer], column[decision.layer]
        half = decision.sensitivity_at(0.5 * decision.original)
        rows.append(
            [
                float(decision.kind == "density"),
                at / len(column),
                float(layer.kind == "depthwise"),
                np.log2(layer.in_size[0]) / 5,
                np.log10(weights[at] / weights.sum()),
                np.log10(flops[at] / flops.sum()),
                np.sqrt(half),
                float(table.block_around([layer.name]) >= 0),
                np.log2(len(column)) / 5,
                np.log(original / (1.02 - original)) / 4,
            ]
        )
    return np.array(rows)


def curve(scale: Callable[[Task], float], power: float) -> Predictor:
    """Return a predictor by the plain sum of energies."""
    return lambda task: np.exp(-((task.lost.sum(axis=1) / scale(task)) ** power))


def fitted_curve(tasks: list[Task]) -> Predictor:
    """Return the curve by the mean energy of a decision that fits tasks best."""

    def predictor(parameters: np.ndarray) -> Predictor:
        scale, power = np.exp(parameters)
        return curve(lambda task: scale * task.lost.shape[1], power)

    start = np.log([SCALE, 2.0])
    found = minimize(lambda p: error_of(predictor(p), tasks), start, method="Nelder-Mead")
    return predictor(found.x)


def error_of(predict: Predictor, tasks: list[Task]) -> float:
    """Return the mean error of what is kept over tasks."""
    return float(np.mean([np.abs(predict(task) - task.kept).mean() for task in tasks]))


def trees(tasks: list[Task]) -> Predictor:
    """Return gradient-boosted trees over summaries of strategies."""
    tasks = [_sampled(task) for task in tasks]
    model = HistGradientBoostingRegressor(
        max_iter=60, max_leaf_nodes=8, loss="absolute_error", random_state=0
    )
    features = np.concatenate([task.summaries for task in tasks])
    model.fit(features, np.concatenate([task.kept for task in tasks]))
    return lambda task: model.predict(task.summaries)


class WeightedEnergy(torch.nn.Module):
    """What is kept is ``exp(-(sum of w L^q)^p)``: w and q follow from what is known of a decision.

    It rises nowhere with a loss L, and adds over decisions as the plain sum does.
    """

    def __init__(self, hidden: int, mean: np.ndarray, deviation: np.ndarray) -> None:
        """Make it linear (no hidden units) or with one hidden layer, for standardized features."""
        super().__init__()
        self._mean, self._deviation = mean, deviation
        last = torch.nn.Linear(hidden or len(mean), 2)
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
        first = [torch.nn.Linear(len(mean), hidden), torch.nn.Tanh()] if hidden else []
        self._weigh = torch.nn.Sequential(*first, last)
        self._scale, self._power = (torch.nn.Parameter(torch.tensor(each)) for each in (0.0, 0.3))

    def forward(self, lost: torch.Tensor, about: torch.Tensor) -> torch.Tensor:
        """Return what strategies keep: (n, decisions), (decisions, features) -> (n,)."""
        weight, power = self._weigh(about).T
        energy = (weight.exp() * (lost + 1e-6) ** (0.5 * power).exp()).sum(1)
        return torch.exp(-((energy * self._scale.exp()) ** self._power.exp()))

    def predict(self, task: Task) -> np.ndarray:
        """Return what the strategies of a task keep."""
        with torch.no_grad():
            return self(*self.tensors(task)).numpy()

    def energies(self, losses: np.ndarray, about: np.ndarray) -> np.ndarray:
        """Return what one decision loses at every option, 1 where accuracy has fallen to 1/e."""
        with torch.no_grad():
            features = torch.from_numpy((about - self._mean) / self._deviation).float()
            weight, power = self._weigh(features)
            lost = torch.from_numpy(losses + 1e-6) ** (0.5 * power).exp()
            return (self._scale.exp() * weight.exp() * lost).numpy()

    def tensors(self, task: Task) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the losses and the standardized features of a task."""
        about = (task.about - self._mean) / self._deviation
        return torch.from_numpy(task.lost).float(), torch.from_numpy(about).float()


def weighted(hidden: int, tasks: list[Task]) -> WeightedEnergy:
    """Return a trained :class:`WeightedEnergy`."""
    torch.manual_seed(0)
    tasks = [_sampled(task) for task in tasks]
    about = np.concatenate([task.about for task in tasks])
    model = WeightedEnergy(hidden, about.mean(axis=0), about.std(axis=0) + 1e-3)
    batches = [(*model.tensors(task), torch.from_numpy(task.kept).float()) for task in tasks]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        losses = [(model(lost, about) - kept).abs().mean() for lost, about, kept in batches]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
        schedule.step()
    return model


def _sampled(task: Task) -> Task:
    rows = np.random.default_rng(0).permutation(len(task.lost))[:SAMPLE]
    return Task(
        *(task.name, task.family, task.lost[rows], task.about, task.accuracy[rows]),
        *(task.original, task.chance),
    )


def own_curve(task: Task) -> np.ndarray:
    """Return what strategies keep by the best curve of their own network."""
    scales, powers = np.geomspace(0.05, 20, 40), np.geomspace(0.5, 4, 10)
    curves = [curve(lambda _, scale=scale: scale, power) for scale in scales for power in powers]
    return min(curves, key=lambda each: error_of(each, [task]))(task)


def with_learned(problem: CompressionProblem, model: WeightedEnergy) -> CompressionProblem:
    """Return the problem with what a model makes of its sensitivities."""
    about, scale = describe(problem, problem.original["accuracy"]), SCALE * len(problem.space)
    decisions = []
    for decision, row in zip(problem.decisions, about, strict=True):
        losses = -np.log1p(-np.minimum(decision.sensitivity, LARGEST_SHARE))
        energies = model.energies(losses, row)
        shares = -np.expm1(-scale * (energies - energies[losses.argmin()]))
        decisions.append(dataclasses.replace(decision, sensitivity=shares))
    space = SearchSpace(problem.evaluator.table, decisions)
    objectives = [objective.name for objective in problem.objectives]
    return CompressionProblem(problem.evaluator, space, problem.costs, objectives)


def print_fronts(env_id: str, model: WeightedEnergy) -> None:
    """Print the hypervolumes of what is proposed before any evaluation."""
    core: Any = gym.make(env_id).unwrapped
    problem, learned = core.problem, with_learned(core.problem, model)
    sweep = van_der_corput(FRONT)[:, None] * np.full(len(problem.space), 2.0) - 1

    def ratios(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return np.array([random_ratio(rng, len(problem.space)) for _ in range(FRONT)])

    proposals: dict[str, Callable[[int], np.ndarray]] = {
        "sensitivity": lambda seed: planned(problem, FRONT, seed),
        "learned": lambda seed: planned(learned, FRONT, seed),
        "random ratios": lambda seed: problem.space.decode(ratios(seed)),
        "uniform ratios": lambda _: problem.space.decode(sweep),
    }
    for name, propose in proposals.items():
        found = [
            hypervolume(problem.evaluate(propose(seed)), problem.reference_point)
            for seed in range(SEEDS)
        ]
        print(f"{env_id}, {name}: {', '.join(f'{each:.4f}' for each in found)}", flush=True)


def family_of(name: str) -> str:
    """Return the family of a task."""
    return next((family for family, ids in IDS.items() if name in ids), name.split("-")[0])


def main() -> None:
    """Print a row per task, then the fronts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fronts", nargs="*", default=["ChannelPrune-Table-v0"])
    options = parser.parse_args()
    folder: Path = options.folder
    torch.set_num_threads(1)
    names = sorted(file.name.removesuffix(".data.safetensors") for file in folder.glob("*.data.*"))
    tasks = [task for name in names if (task := load(name, folder)).original >= LEAST]
    print("| task | strategies | original | sum | curve | trees | linear | MLP | own curve |")
    print("|---|---|---|---|---|---|---|---|---|")
    for family in FAMILIES:
        others = [task for task in tasks if task.family != family]
        predictors = (
            curve(lambda task: SCALE * task.lost.shape[1], 2.0),
            fitted_curve(others),
            trees(others),
            weighted(0, others).predict,
            weighted(8, others).predict,
            own_curve,
        )
        for task in (task for task in tasks if task.family == family):
            cells = []
            for predict in predictors:
                kept = np.clip(predict(task), 0, 1)
                rank = spearmanr(kept, task.accuracy).statistic
                error = np.abs(kept - task.kept).mean() * (task.original - task.chance)
                cells.append(f"{rank:.3f}, {error:.3f}")
            about = f"| {task.name} | {len(task.lost)} | {task.original:.3f} | "
            print(about + " | ".join(cells) + " |", flush=True)
    for env_id in options.fronts:
        others = [task for task in tasks if task.family != family_of(env_id)]
        print_fronts(env_id, weighted(0, others))


if __name__ == "__main__":
    main()
