"""Seconds that every cost takes for 100,000 random strategies of VGG16.

python benchmarks/costs.py
"""

import time

import numpy as np

from prune_gym import models
from prune_gym.costs import build_costs
from prune_gym.costs.energy import DATAFLOWS
from prune_gym.costs.latency import load_latency_table
from prune_gym.costs.size import CODINGS
from prune_gym.graph.trace import trace

STRATEGIES = 100_000


def main() -> None:
    """Print a line per cost: widths alone, and with densities and bits."""
    table = trace(models.build("vgg16", 10).eval(), (3, 32, 32))
    rng, shape = np.random.default_rng(0), (STRATEGIES, len(table.weighted))
    widths = rng.integers(1, table.full + 1, (STRATEGIES, len(table.full)))
    bits = {part: rng.integers(1, 9, shape) for part in ("weight_bits", "activation_bits")}
    density = rng.uniform(0.05, 1, shape)
    given = (table.configuration(widths), table.configuration(widths, density=density, **bits))
    latency = load_latency_table("reference-cpu")
    costs = build_costs(table, latency)
    costs |= {f"energy {d}": build_costs(table, None, dataflow=d)["energy"] for d in DATAFLOWS}
    costs |= {f"size {c}": build_costs(table, None, coding=c)["size"] for c in CODINGS}
    print(f"{'cost':<16}{'widths':>10}{'all':>10}  seconds")
    for name, cost in costs.items():
        seconds = []
        for configuration in given:
            start = time.perf_counter()
            cost(configuration)
            seconds.append(time.perf_counter() - start)
        print(f"{name:<16}" + "".join(f"{each:>10.3f}" for each in seconds))


if __name__ == "__main__":
    main()
