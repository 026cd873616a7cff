"""The search space of JCW's published code, as a part of an environment's.

Shares of channels and of weights go in steps of 0.1 down to a bound: half of the channels, and 0.3
of the weights. The first layer, layers with a stride, and channels that a residual addition joins
have higher bounds.
"""

from dataclasses import replace

import numpy as np

from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.graph.layer_table import LayerTable
from prune_gym.search_space import Decision, SearchSpace

STEPS = 10  # shares are multiples of a tenth
CHANNELS = {"first": 0.8, "strided": 0.6, "residual": 0.9, "other": 0.5}
DENSITY = {"first": 0.8, "strided": 0.8, "residual": 0.3, "other": 0.3}
BOUNDS = {"channels": CHANNELS, "density": DENSITY}


def bounded_space(problem: CompressionProblem) -> SearchSpace:
    """Return the problem's search space with the options of channels and density that JCW has.

    Each share becomes the nearest of the environment's options. Decisions of other kinds keep all
    of theirs.
    """
    table = problem.evaluator.table
    decisions = [_bounded(decision, table) for decision in problem.space.decisions]
    return SearchSpace(table, decisions, problem.evaluator.density)


def least_share(decision: Decision, table: LayerTable) -> float:
    """Return the least share of the original's value that a decision may take, 0 for all."""
    if decision.kind not in BOUNDS:
        return 0.0
    names = [table.layers[index].name for index in table.weighted]
    layers = [name for name in names if name in _about(decision, table)]
    kinds = ["other"]
    if names[0] in layers:
        kinds.append("first")
    if any(layer.stride > 1 for layer in table.layers if layer.name in layers):
        kinds.append("strided")
    if len(layers) > 1:
        kinds.append("residual")
    return max(BOUNDS[decision.kind][kind] for kind in kinds)


def _about(decision: Decision, table: LayerTable) -> set[str]:
    """Return the layer of a density, or those that write a group's channels, each for itself."""
    if decision.kind == "density":
        return {table.layers[decision.layer].name}
    group = next(each for each in table.groups if each.name == decision.name)
    depthwise = {layer.name for layer in table.layers if layer.kind == "depthwise"}
    return {member.module for member in group.members if member.dim == "out"} - depthwise


def _bounded(decision: Decision, table: LayerTable) -> Decision:
    least = least_share(decision, table)
    if not least:
        return decision
    shares = np.arange(round(least * STEPS), STEPS + 1) / STEPS
    wanted = shares[:, None] * decision.original
    at = np.unique(np.abs(decision.options - wanted).argmin(axis=1))
    at = at[decision.options[at] >= least * decision.original - 1e-9]
    return replace(
        decision,
        options=decision.options[at],
        grid=decision.grid[at],
        sensitivity=decision.sensitivity[at],
    )
