"""A table of the fine-tuned networks, and pictures of them beside published ones.

    python benchmarks/cifar10_report.py --results benchmarks/results/cifar10 --out docs/images

The table is Markdown. The pictures show the change of the test accuracy from each network's own
original over the share of multiply-adds that is gone, because originals differ. ``finetuned.csv``
is what ``benchmarks/cifar10.py`` collected; ``published.csv`` holds the figures that papers and
their repositories report, whose trainings are longer (100 to 400 epochs).
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

NETWORKS = {"vgg16": "VGG16", "resnet56": "ResNet-56"}
STYLES = {
    "envelope-ddpg": ("envelope DDPG (ours)", "C0", "o-"),
    "amc": ("AMC", "C1", "s--"),
    "uniform": ("uniform", "C2", "^:"),
}

FILLED = {"long": "full", "short": "none"}  # of markers, by recipe


def read(path: Path) -> list[dict[str, str]]:
    """Return a CSV's rows."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(tuned: list[dict[str, str]]) -> str:
    """Return a Markdown table, the fewest multiply-adds last."""
    head = (
        "| network | within | method | seed | epochs | multiply-adds | memory | latency | "
        "before training | after, search split | after, test split | change |"
    )
    lines = [head, "|---" * head.count(" | ") + "|---|"]
    for row in sorted(tuned, key=lambda row: (row["network"], -float(row["flops_share"]))):
        costs, stages = (
            ("flops", "memory", "latency"),
            ("pruned_test", "tuned_search", "tuned_test"),
        )
        shares = (f"{100 * float(row[f'{cost}_share']):.1f} %" for cost in costs)
        accuracies = (f"{100 * float(row[stage]):.2f} %" for stage in stages)
        changed = 100 * (float(row["tuned_test"]) - float(row["original_test"]))
        limits = row["limits"].replace("flops", "flops ")
        first = (NETWORKS[row["network"]], limits, STYLES[row["agent"]][0])
        cells = (*first, row["seed"], row["epochs"], *shares, *accuracies, f"{changed:+.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(network: str, tuned: list[dict[str, str]], published: list[dict[str, str]]) -> Figure:
    """Draw one network's picture."""
    figure = Figure((7.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    drops = [float(row["flops_drop"]) for row in published]
    changes = [float(row["change"]) for row in published]
    axes.plot(drops, changes, ".", color="0.6", label="published, fine-tuned for longer")
    for row, drop, changed in zip(published, drops, changes, strict=True):
        axes.annotate(row["method"], (drop, changed), fontsize=6, color="0.5", rotation=20)
    for agent, recipe in sorted({(row["agent"], row["recipe"]) for row in tuned}):
        label, colour, style = STYLES[agent]
        points = defaultdict(list)
        for row in tuned:
            if (row["agent"], row["recipe"]) == (agent, recipe):
                drop = 100 - 100 * float(row["flops_share"])
                change = 100 * (float(row["tuned_test"]) - float(row["original_test"]))
                points[row["limits"]].append((drop, change))
                epochs = row["epochs"]
        means = sorted(
            tuple(sum(x) / len(x) for x in zip(*p, strict=True)) for p in points.values()
        )
        axes.plot(
            *zip(*means, strict=True),
            style,
            color=colour,
            fillstyle=FILLED[recipe],
            label=f"{label}, {epochs} epochs",
        )
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.set_xlabel("multiply-adds removed, %")
    axes.set_ylabel("change of test accuracy, points")
    axes.set_title(f"{NETWORKS[network]} on CIFAR-10, pruned and fine-tuned")
    axes.legend(loc="lower left")
    return figure


def main() -> None:
    """Print the table and write a picture for every network that has results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    tuned, published = (read(options.results / f"{n}.csv") for n in ("finetuned", "published"))
    print(table(tuned))
    for network in NETWORKS:
        rows = [row for row in tuned if row["network"] == network]
        if rows:
            beside = [row for row in published if row["network"] == network]
            file = options.out / f"finetuned-{network}.png"
            plot(network, rows, beside).savefig(file, dpi=140)
            print(f"Wrote {file}")


if __name__ == "__main__":
    main()
