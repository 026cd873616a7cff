"""Pictures of a benchmark."""

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prune_gym.experiments.benchmark.summary import Summary

SHARE = "hypervolume [share of the whole]"
NOTE = "interquartile mean over seeds, 95 % bootstrap interval"


def curves_figure(summaries: Mapping[str, Sequence[Summary]]) -> Figure:
    """Draw hypervolume over evaluations, one panel per environment, most hypervolume first."""
    figure, axes = _panels(len(summaries))
    colors = _colors(summaries)
    for axis, (env, agents) in zip(axes, summaries.items(), strict=False):
        for summary in agents:
            middle, low, high = summary.curve.band()
            x, color = summary.curve.evaluations, colors[summary.agent]
            axis.plot(x, middle, color=color, label=summary.agent, linewidth=1.6)
            axis.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
        _zoom(axis, agents)
        axis.set_title(env, fontsize=10)
        axis.set_xlabel("evaluated strategies")
        axis.set_ylabel(SHARE)
        axis.grid(alpha=0.3)
        axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False)
    figure.suptitle(f"Hypervolume of everything evaluated ({NOTE})", fontsize=11)
    figure.tight_layout()
    return figure


def final_figure(summaries: Mapping[str, Sequence[Summary]]) -> Figure:
    """Draw the final hypervolume of every agent with its interval, one panel per environment."""
    figure, axes = _panels(len(summaries))
    colors = _colors(summaries)
    for axis, (env, agents) in zip(axes, summaries.items(), strict=False):
        for row, summary in enumerate(reversed(agents)):
            point, low, high = summary.hypervolume
            color = colors[summary.agent]
            axis.plot([low, high], [row, row], color=color, linewidth=3, solid_capstyle="butt")
            axis.plot([point], [row], "o", color=color, markersize=7)
        axis.set_yticks(range(len(agents)), [summary.agent for summary in reversed(agents)])
        axis.set_ylim(-0.6, len(agents) - 0.4)
        axis.set_title(f"{env}, {agents[0].curve.evaluations[-1]} strategies", fontsize=10)
        axis.set_xlabel(SHARE)
        axis.grid(alpha=0.3, axis="x")
    figure.suptitle(f"Final hypervolume ({NOTE})", fontsize=11)
    figure.tight_layout()
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, 2)
    rows = -(-count // columns)
    figure = Figure(figsize=(8.5 * columns, 4.2 * rows))  # no pyplot: nothing to close
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes


def _colors(summaries: Mapping[str, Sequence[Summary]]) -> dict[str, tuple]:
    """Return one color per agent, the same in every panel; the strong ones come first."""
    names = dict.fromkeys(summary.agent for agents in summaries.values() for summary in agents)
    colormap = matplotlib.colormaps["tab20"]
    shades = [colormap(index) for index in range(colormap.N)]
    palette = [*shades[0::2], *shades[1::2]]
    return {name: palette[index % len(palette)] for index, name in enumerate(names)}


def _zoom(axis: Axes, agents: Sequence[Summary]) -> None:
    """Leave out the first steep rise, in which agents cannot be told apart."""
    start = max(len(agents[0].curve.evaluations) // 10, 1)
    shown = [summary.curve.volumes[:, start:] for summary in agents]
    if not all(part.size for part in shown):
        return
    low, high = min(part.min() for part in shown), max(part.max() for part in shown)
    margin = 0.05 * max(high - low, 1e-3)
    axis.set_ylim(low - margin, high + margin)
