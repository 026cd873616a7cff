"""Pictures of a front."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from prune_gym.objectives.objective import Objective


def front_figure(
    title: str,
    objectives: Sequence[Objective],
    points: np.ndarray,
    on_front: np.ndarray,
    original: Mapping[str, float],
    uniform: np.ndarray,
) -> Figure:
    """Draw the first objective against every other one, as shares of the original network.

    Args:
        title: what was searched.
        objectives: k objectives, in the order of the columns.
        points: natural values of everything evaluated, ``(n, k)``.
        on_front: which points are on the front, ``bool (n,)``.
        original: natural values of the original network by metric.
        uniform: natural values of uniform strategies, the reference, ``(u, k)``; may be empty.
    """
    first, shown = objectives[0], objectives[1:] or objectives
    columns = min(len(shown), 3)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.8 * rows))  # no pyplot: no backend, nothing to close
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    y = _scaled(points[:, 0], first, original)
    for axis, objective in zip(axes.flat, shown, strict=False):
        column = list(objectives).index(objective)
        x = _scaled(points[:, column], objective, original)
        axis.scatter(x[~on_front], y[~on_front], s=14, color="0.75", label="evaluated")
        axis.scatter(x[on_front], y[on_front], s=22, color="tab:blue", label="on the front")
        if len(uniform):
            along = uniform[uniform[:, column].argsort()]
            axis.plot(
                _scaled(along[:, column], objective, original),
                _scaled(along[:, 0], first, original),
                linestyle="--",
                marker="s",
                markersize=4,
                zorder=0,  # behind the points
                color="tab:orange",
                label="uniform sweep, beside the search",
            )
        axis.scatter(
            [_scaled(original[objective.metric], objective, original)],
            [_scaled(original[first.metric], first, original)],
            marker="*",
            s=130,
            color="tab:red",
            label="original network",
        )
        axis.set_xlabel(_label(objective))
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel(_label(first))
    axes[0, 0].legend(loc="lower right", fontsize=8)
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    figure.suptitle(title)
    figure.tight_layout()
    return figure


def _scaled(value, objective: Objective, original: Mapping[str, float]):
    """Return accuracies as % and costs as % of the original's."""
    if objective.name == "accuracy":
        return 100 * value
    return 100 * value / original[objective.metric]


def _label(objective: Objective) -> str:
    if objective.name == "accuracy":
        return f"{objective.label} on the search split [%]"
    return f"{objective.name} [% of the original]"
