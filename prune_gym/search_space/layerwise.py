"""Decisions about single layers with weights: how dense they are and how many bits they take."""

from collections.abc import Callable

import numpy as np
import torch

from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.graph.configuration import FLOAT_BITS
from prune_gym.search_space.decision import Decision
from prune_gym.search_space.options import SpaceOptions

DENSITY_STEP = 0.05
# A sample of a layer's weights and the options -> the share of energy that each of them loses.
Loss = Callable[[np.ndarray, np.ndarray], np.ndarray]
SAMPLE = 65_536  # weights of a layer that its sensitivity is estimated from


def density_decisions(evaluator: Evaluator, rules: SpaceOptions) -> list[Decision]:
    """Return one decision per layer: the share of its weights that stays (JCW)."""
    options = densities(rules)
    return _per_layer(evaluator, "density", 1.0, options, options, _pruning_loss)


def variational_decisions(evaluator: Evaluator, rules: SpaceOptions) -> list[Decision]:
    """Return one decision per layer: the share of its weights that stays, by information.

    Which weights go is learned by information dropout
    (:mod:`prune_gym.compression.information_dropout`), the element-wise variational pruning of the
    two-stage paper (arXiv 1912.02254).
    """
    options = densities(rules)
    return _per_layer(evaluator, "variational", 1.0, options, options, _pruning_loss)


def global_density_decision(evaluator: Evaluator, rules: SpaceOptions) -> list[Decision]:
    """Return the one decision of the same density for all layers (EMOMC)."""
    options, weighted = densities(rules), evaluator.table.weighted
    lost = np.mean([_pruning_loss(_weights(evaluator, i), options) for i in weighted], axis=0)
    columns = tuple(range(len(weighted)))
    name = "all layers"
    return [Decision("global_density", name, 1.0, options, options, columns, weighted[0], lost)]


def weight_bits_decisions(evaluator: Evaluator, rules: SpaceOptions) -> list[Decision]:
    """Return one decision per layer: the bits of its weights (HAQ, EMOMC, two-stage)."""
    return _bits(evaluator, rules, "weight_bits", _rounding_loss)


def activation_bits_decisions(evaluator: Evaluator, rules: SpaceOptions) -> list[Decision]:
    """Return one decision per layer: the bits of its input."""
    return _bits(evaluator, rules, "activation_bits", _clipping_loss)


def densities(rules: SpaceOptions) -> np.ndarray:
    """Return the densities to choose from, ascending: multiples of 0.05 and the least one."""
    steps = np.arange(np.ceil(rules.min_density / DENSITY_STEP - 1e-9), 1 / DENSITY_STEP + 0.5)
    return np.unique(np.append(np.round(steps * DENSITY_STEP, 2), rules.min_density))


def _bits(evaluator: Evaluator, rules: SpaceOptions, kind: str, loss: Loss) -> list[Decision]:
    options = np.array(sorted(set(rules.bits)))
    return _per_layer(evaluator, kind, FLOAT_BITS, options, np.arange(len(options)), loss)


def _per_layer(
    evaluator: Evaluator,
    kind: str,
    of: float,
    options: np.ndarray,
    scale: np.ndarray,
    loss: Loss,
) -> list[Decision]:
    table = evaluator.table
    decisions = []
    for column, index in enumerate(table.weighted):
        name = table.layers[index].name
        lost = loss(_weights(evaluator, index), options)
        inside = table.block_around([name])
        decisions.append(Decision(kind, name, of, options, scale, (column,), index, lost, inside))
    return decisions


def _weights(evaluator: Evaluator, index: int) -> np.ndarray:
    """Return a sample of a layer's weights, per output channel, ``float32 (outputs, n)``."""
    name = evaluator.table.layers[index].name
    weight: torch.Tensor = evaluator.network.get_submodule(name).get_parameter("weight")
    flat = weight.detach().flatten(1)
    step = max(flat.numel() // SAMPLE, 1)
    return flat[:, ::step].numpy() if flat.shape[1] > step else flat[::step].numpy()


def _pruning_loss(weights: np.ndarray, densities: np.ndarray) -> np.ndarray:
    """Return the share of the weights' energy that magnitude pruning takes away."""
    energy = np.sort(weights.ravel() ** 2)
    below = np.concatenate([[0.0], np.cumsum(energy, dtype=np.float64)])
    removed = np.round((1 - densities) * len(energy)).astype(int)
    return below[removed] / max(below[-1], 1e-12)


def _rounding_loss(weights: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Return the noise of uniform symmetric quantisation per output channel, of their energy."""
    levels = np.maximum(2.0 ** (bits - 1) - 1, 0.5)
    steps = np.abs(weights).max(axis=1)[None] / levels[:, None]
    noise = (steps**2).mean(axis=1) / 12 / max(float((weights**2).mean()), 1e-12)
    return np.minimum(noise, 1.0)


def _clipping_loss(weights: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Return the noise of uniform quantisation of a half-normal input clipped at 3 deviations."""
    return np.minimum((3 / (2.0**bits - 1)) ** 2 / 12, 1.0)
