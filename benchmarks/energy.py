"""Energy and size of VGG16 on CIFAR-10 beside EMOMC's tables II and III.

    python benchmarks/energy.py

The paper prints energies and factors; its baselines are derived as energy x factor, as the interval
that all three methods' rounded figures allow. Its "Pruning Filters" is modelled in two ways: the
filters cut out (Li et al. 2017, VGG-16-pruned-A: conv 1 to 32, conv 8 to 13 to 256 channels), and
their weights zero while the layers after them stay as they were.
"""

import dataclasses

import numpy as np

from prune_gym import models
from prune_gym.costs.energy import Energy
from prune_gym.costs.size import CODINGS, Size
from prune_gym.graph.configuration import Configuration
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.trace import trace

# Table II: mJ and factor of EMOMC, Pruning Filters, Play and Prune.
ENERGY = {
    "X:Y": ((1.7, 14.0), (18.5, 1.2), (9.5, 2.4)),
    "CI:CO": ((1.7, 12.2), (19.6, 1.1), (12.6, 1.7)),
    "FX:FY": ((2.3, 10.4), (18.5, 1.3), (9.5, 2.5)),
    "X:FX": ((2.6, 8.9), (19.3, 1.2), (11.2, 2.0)),
}
# Table III: MB of Pruning Filters.
SIZE = {"dense": 34.7, "csr": 37.9, "coo": 57.3}
HALVED = (0, 7, 8, 9, 10, 11, 12)


def baseline(rows: tuple[tuple[float, float], ...]) -> tuple[float, float]:
    """Return the interval of energies that all rounded (energy, factor) pairs allow."""
    low = max((energy - 0.05) * (factor - 0.05) for energy, factor in rows)
    high = min((energy + 0.05) * (factor + 0.05) for energy, factor in rows)
    return low, high


def variants(table: LayerTable) -> dict[str, Configuration]:
    """Return the networks that are compared."""
    cut, layers = table.full[None].copy(), len(table.weighted)
    cut[0, list(HALVED)] //= 2
    zeroed = np.ones((1, layers))
    zeroed[0, list(HALVED)] = 0.5

    def uniform(density: float, weight_bits: int, activation_bits: int) -> Configuration:
        return table.configuration(
            density=np.full((1, layers), density),
            weight_bits=np.full((1, layers), weight_bits),
            activation_bits=np.full((1, layers), activation_bits),
        )

    return {
        "full, float32": table.configuration(),
        "filters cut (Li 2017)": table.configuration(cut),
        "filters zeroed": table.configuration(density=zeroed),
        "density 0.5, 8/16 bits": uniform(0.5, 8, 16),
        "density 0.2, 8/16 bits": uniform(0.2, 8, 16),
        "density 0.2, 4/16 bits": uniform(0.2, 4, 16),
        "density 0.2, 8/8 bits": uniform(0.2, 8, 8),
        "density 0.1, 4/8 bits": uniform(0.1, 4, 8),
    }


def main() -> None:
    """Print one table of energies and one of sizes."""
    network = models.build("vgg16", 10).eval()
    # The paper prunes element by element.
    table = dataclasses.replace(trace(network, (3, 32, 32)), block_size=1)
    print("energy, mJ (x less); bits: weights/activations")
    print(f"{'':<26}" + "".join(f"{name:>16}" for name in ENERGY))
    intervals = [baseline(rows) for rows in ENERGY.values()]
    print(f"{'paper, baseline':<26}" + "".join(f"{a:>9.1f} - {b:4.1f}" for a, b in intervals))
    for row, name in enumerate(("EMOMC", "Pruning Filters", "Play and Prune")):
        cells = (f"{rows[row][0]:.1f} ({rows[row][1]:.1f})" for rows in ENERGY.values())
        print(f"{'paper, ' + name:<26}" + "".join(f"{cell:>16}" for cell in cells))
    costs = [Energy(table, dataflow) for dataflow in ENERGY]
    first = [float(cost(table.configuration())[0]) for cost in costs]
    for name, configuration in variants(table).items():
        found = [float(cost(configuration)[0]) for cost in costs]
        cells = (f"{mj:.2f} ({of / mj:.2f})" for mj, of in zip(found, first, strict=True))
        print(f"{name:<26}" + "".join(f"{cell:>16}" for cell in cells))
    print("\nsize, MB (x of dense)")
    print(f"{'':<26}" + "".join(f"{coding:>16}" for coding in CODINGS))
    cells = (f"{SIZE[coding]:.1f} ({SIZE[coding] / SIZE['dense']:.3f})" for coding in CODINGS)
    print(f"{'paper, Pruning Filters':<26}" + "".join(f"{cell:>16}" for cell in cells))
    for name, configuration in variants(table).items():
        sizes = [float(Size(table, coding)(configuration)[0]) / 1e6 for coding in CODINGS]
        cells = (f"{size:.2f} ({size / sizes[0]:.3f})" for size in sizes)
        print(f"{name:<26}" + "".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
