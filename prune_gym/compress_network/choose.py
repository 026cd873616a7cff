"""Choose one of the strategies that a search evaluated, with an eye on the noise of accuracies."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from prune_gym.datasets import Data
from prune_gym.datasets.normalize import normalize
from prune_gym.evaluation.evaluator import BATCH
from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.experiments.evaluated_strategy import EvaluatedStrategy
from prune_gym.graph.inputs import feed

LEAST = -20.0  # log-probability; one hopeless image is not to outweigh all others
FINALISTS = 8  # strategies whose networks are built again for their probabilities


def standard_error(accuracy: float, count: int) -> float:
    """Return the standard error of an accuracy measured on ``count`` images.

    One image is added on each side, so that 100 % of few images is not taken for certain.
    """
    share = (accuracy * count + 1) / (count + 2)
    return math.sqrt(share * (1 - share) / count)


def choose(
    problem: CompressionProblem, evaluated: Sequence[EvaluatedStrategy]
) -> EvaluatedStrategy:
    """Return the strategy that is probably the most accurate; of a score, the one that has most.

    1. Strategies within one standard error of the best accuracy count as equally accurate.
    2. Of these, the eight that keep most of what the budgets limit are finalists, and so is the
       most accurate one.
    3. The finalist with the highest mean log-probability of the right class wins. Of finalists
       within one standard error of it (of the difference, image by image) the one that keeps most
       wins: saving more than the budget asks for is no aim.
    """
    data = problem.evaluator.data
    equal = equally_accurate(problem, evaluated)
    best = max(equal, key=lambda each: each.metrics["accuracy"])
    if not isinstance(data, Data):
        return best
    finalists = equal[:FINALISTS] if best in equal[:FINALISTS] else [*equal[:FINALISTS], best]
    networks = (problem.apply(each.strategy) for each in finalists)
    scores = np.array([log_probabilities(each, data) for each in networks])
    lost = scores[scores.mean(axis=1).argmax()] - scores
    as_good = lost.mean(axis=1) <= lost.std(axis=1) / math.sqrt(len(data.search))
    return finalists[int(as_good.argmax())]  # the first: it keeps most


def equally_accurate(
    problem: CompressionProblem, evaluated: Sequence[EvaluatedStrategy]
) -> list[EvaluatedStrategy]:
    """Return the strategies within one standard error of the best, what keeps most first."""
    data = problem.evaluator.data
    metrics = [problem.costs[name].metric for name in problem.budgets.limits]
    original = problem.original

    def kept(each: EvaluatedStrategy) -> float:
        return sum(each.metrics[metric] / original[metric] for metric in metrics)

    distinct = {problem.configure(each.strategy).key(): each for each in evaluated}
    best = max(each.metrics["accuracy"] for each in distinct.values())
    least = best - standard_error(best, len(data.search))
    equal = [each for each in distinct.values() if each.metrics["accuracy"] >= least]
    return sorted(equal, key=kept, reverse=True)


@torch.inference_mode()
def log_probabilities(network: nn.Module, data: Data) -> np.ndarray:
    """Return the log-probability of the right class of every search image, ``(images,)``."""
    found = []
    for start in range(0, len(data.search), BATCH):
        images = normalize(data.search.images[start : start + BATCH], data)
        labels = torch.tensor(data.search.labels[start : start + BATCH])
        found.append(feed(network, images).log_softmax(1).gather(1, labels[:, None])[:, 0])
    return torch.cat(found).nan_to_num(nan=LEAST).clamp_min(LEAST).double().numpy()
