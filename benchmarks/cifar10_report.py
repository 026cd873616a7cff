"""A table of the fine-tuned networks, and pictures of them beside published ones.

    python benchmarks/cifar10_report.py --results benchmarks/results/cifar10 --out docs/images

The table is Markdown. The pictures show the change of the test accuracy from each network's own
original over the share of multiply-adds that is gone, because originals differ. ``finetuned.csv``
is what ``benchmarks/cifar10.py`` collected; ``published.csv`` holds the figures that papers and
their repositories report, whose trainings are longer (100 to 400 epochs).
"""

import argparse
import csv
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

NETWORKS = {"vgg16": "VGG16", "resnet56": "ResNet-56"}


def read(path: Path) -> list[dict[str, str]]:
    """Return a CSV's rows."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(tuned: list[dict[str, str]]) -> str:
    """Return a Markdown table, the tightest limit last and in it the fewest multiply-adds."""
    head = (
        "| network | within | method | epochs | multiply-adds | memory | latency | "
        "before training | after, search split | after, test split | change |"
    )
    lines = [head, "|---" * head.count(" | ") + "|---|"]

    def place(row: dict[str, str]) -> tuple[str, float, float]:
        limit = float(re.findall(r"[\d.]+", row["limits"])[0])
        return row["network"], -limit, -float(row["flops_share"])

    for row in sorted(tuned, key=place):
        shares = (
            f"{100 * float(row[f'{c}_share']):.1f}\N{NO-BREAK SPACE}%"
            for c in ("flops", "memory", "latency")
        )
        stages = ("pruned_test", "tuned_search", "tuned_test")
        accuracies = (f"{100 * float(row[stage]):.2f}\N{NO-BREAK SPACE}%" for stage in stages)
        limits = row["limits"].replace("flops", "flops ")
        first = (NETWORKS[row["network"]], limits, row["agent"], row["epochs"])
        cells = (*first, *shares, *accuracies, f"{change(row):+.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def change(row: dict[str, str]) -> float:
    """Return what the test accuracy gained over the original's, in points."""
    return 100 * (float(row["tuned_test"]) - float(row["original_test"]))


def plot(network: str, tuned: list[dict[str, str]], published: list[dict[str, str]]) -> Figure:
    """Draw one network's picture."""
    figure = Figure((7.2, 5.2), layout="constrained")
    axes = figure.add_subplot()
    drops = [float(row["flops_drop"]) for row in published]
    changes = [float(row["change"]) for row in published]
    axes.plot(drops, changes, ".", color="0.6", label="published, fine-tuned for longer")
    for rank, at in enumerate(np.argsort(drops)):  # neighbours' names on opposite sides
        name, point = published[at]["method"], (drops[at], changes[at])
        side, ha, va = (1, "left", "bottom") if rank % 2 else (-1, "right", "top")
        axes.annotate(
            name,
            point,
            (3 * side, 2 * side),
            textcoords="offset points",
            ha=ha,
            va=va,
            fontsize=7,
            color="0.5",
        )
    agents = list(dict.fromkeys(row["agent"] for row in tuned))
    most = max(int(row["epochs"]) for row in tuned)
    curves = defaultdict(lambda: defaultdict(list))  # (agent, epochs) -> limits -> seeds' points
    for row in tuned:
        point = 100 - 100 * float(row["flops_share"]), change(row)
        curves[row["agent"], int(row["epochs"])][row["limits"]].append(point)
    for (agent, epochs), limits in curves.items():
        means = np.array(sorted(tuple(np.mean(seeds, axis=0)) for seeds in limits.values()))
        color, filled = f"C{agents.index(agent)}", "full" if epochs == most else "none"
        label = f"{agent}, {epochs} epochs"
        axes.plot(means[:, 0], means[:, 1], "o-", color=color, fillstyle=filled, label=label)
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.set_xlabel("multiply-adds removed, %")
    axes.set_ylabel("change of test accuracy, points")
    axes.set_title(f"{NETWORKS[network]} on CIFAR-10, pruned and fine-tuned")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure


def main() -> None:
    """Print the table and write a picture for every network that has results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    tuned, published = (read(options.results / f"{n}.csv") for n in ("finetuned", "published"))
    print(table(tuned))
    options.out.mkdir(parents=True, exist_ok=True)
    for network in NETWORKS:
        rows = [row for row in tuned if row["network"] == network]
        if rows:
            beside = [row for row in published if row["network"] == network]
            file = options.out / f"finetuned-{network}.png"
            plot(network, rows, beside).savefig(file, dpi=140)
            print(f"Wrote {file}")


if __name__ == "__main__":
    main()
