"""A picture of an episode: what stays of every layer, with names and numbers."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from prune_gym.costs import Cost
from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.search_space import Decision

NAMED = 40  # decisions; more have no room for names and numbers
BACKING = {"facecolor": "white", "linewidth": 0, "pad": 0.5, "alpha": 0.8}
RATIOS = 201  # of uniform strategies, among which the reference is looked for


def episode_picture(
    problem: CompressionProblem,
    values: np.ndarray,
    made: int,
    shares: Sequence[tuple[str, float]],
    title: str,
) -> np.ndarray:
    """Return a bar per decision, ``uint8 (height, width, 3)``; its size depends on ``problem``.

    A dashed line shows the reference: the largest uniform strategy, with the same action for every
    decision, that costs no more. It needs no evaluation. The cost is the first of the objectives.

    Args:
        problem: what is decided.
        values: of the decisions; open ones have the original's, ``(decisions,)``.
        made: how many decisions are made.
        shares: costs so far by name, as shares of the original's.
        title: stands above the picture.
    """
    decisions, upper = problem.decisions, problem.space.upper
    place, ratios = np.arange(len(decisions)), values / upper
    figure = Figure(figsize=(np.clip(0.3 * len(decisions) + 1.5, 6.4, 12), 4.2), dpi=100)
    axis = figure.subplots()
    axis.bar(place, 1.0, color="0.92", width=0.8)
    kinds = list(dict.fromkeys(decision.kind for decision in decisions))
    for number, kind in enumerate(kinds):
        of_kind = np.array([decision.kind == kind for decision in decisions]) & (place < made)
        label, color = kind.replace("_", " "), colormaps["tab10"](number)
        axis.bar(place[of_kind], ratios[of_kind], color=color, width=0.8, label=label)
    if cost := _first_cost(problem):
        uniform = _uniform(problem, cost, values) / upper
        edges = np.arange(len(decisions) + 1) - 0.5
        label = f"uniform, {cost.name} no higher"
        axis.stairs(uniform, edges, baseline=None, color="black", linestyle="--", label=label)
    if len(decisions) <= NAMED:
        for index in range(made):
            text = f"{values[index]:.3g}"
            height = ratios[index] + 0.02
            axis.text(index, height, text, ha="center", va="bottom", fontsize=7, bbox=BACKING)
        axis.set_xticks(place, _names(decisions), rotation=90, fontsize=7)
    axis.set(xlim=(-0.5, len(decisions) - 0.5), ylim=(0, 1.1), ylabel="share of the original")
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, fontsize=8, frameon=False)
    costs = ", ".join(f"{name} {share:.1%}" for name, share in shares)
    figure.suptitle(f"{title}, {made} of {len(decisions)} decisions\n{costs}", fontsize=9)
    figure.tight_layout()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def _first_cost(problem: CompressionProblem) -> Cost | None:
    """Return the first objective that is a cost and is not measured by the clock."""
    costs = (problem.costs.get(objective.name) for objective in problem.objectives)
    return next((cost for cost in costs if cost is not None and cost.deterministic), None)


def _uniform(problem: CompressionProblem, cost: Cost, values: np.ndarray) -> np.ndarray:
    """Return the largest uniform strategy that costs no more than ``values``."""
    space = problem.space
    actions = np.repeat(np.linspace(-1, 1, RATIOS)[:, None], len(space), axis=1)
    uniform = space.canonicalise(space.decode(actions))
    fits = cost(space.configure(uniform)) <= cost(space.configure(values[None]))
    return uniform[max(np.flatnonzero(fits), default=0)]


def _names(decisions: Sequence[Decision]) -> list[str]:
    """Return the names of the layers, cut short at their beginning."""
    return [name if len(name := d.name) <= 22 else f"...{name[-19:]}" for d in decisions]
