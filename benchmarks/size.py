"""What it takes to say where the weights are in a magnitude-pruned VGG16, bits per weight kept.

    python benchmarks/size.py

Element-wise, the shipped CIFAR-10 weights, 8 bits a weight. "reserved" is what the csr coding
takes wherever the weights are, "needed" the Rice code without its reserve at these positions;
"3 bits, padded" is the relative index of Deep Compression (Han et al. 2016): a gap over 7 costs
whole entries of 3 + 8 bits with the value 0. EMOMC counts 3 bits and no padding.
"""

import copy
import dataclasses

import numpy as np

from prune_gym import models
from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.unstructured import sparsify
from prune_gym.costs.size import rice
from prune_gym.graph.trace import trace

BITS = 8


def main() -> None:
    """Print one line per density."""
    network = models.pretrained("vgg16", "cifar10", 10)
    table = dataclasses.replace(trace(network, (3, 32, 32)), block_size=1)
    network = fold_batch_norm(network, table)
    names = [table.layers[index].name for index in table.weighted]
    columns = ("reserved", "needed", "3 bits, padded", "coo", "entropy")
    print(f"{'density':>8}" + "".join(f"{name:>16}" for name in columns))
    for density in (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9):
        sparse = sparsify(copy.deepcopy(network), table, np.full(len(names), density))
        total, weights = np.zeros(len(columns) + 1), 0
        for name in names:
            weight = sparse.get_submodule(name).get_parameter("weight").detach()
            at = np.flatnonzero(weight.numpy())
            gaps, size, matrix = (
                np.diff(at, prepend=-1) - 1,
                weight.numel(),
                weight.flatten(1).shape,
            )
            bits, low = rice(np.float64(len(at)), np.float64(size))
            needed = len(at) * (int(low) + 1) + int((gaps >> int(low)).sum())
            padded = 3 * len(at) + (3 + BITS) * int((gaps // 8).sum())
            coo = len(at) * sum((extent - 1).bit_length() for extent in matrix)
            share = len(at) / size
            entropy = -size * (share * np.log2(share) + (1 - share) * np.log2(1 - share))
            total += len(at), float(bits), needed, padded, coo, entropy
            weights += size
        print(f"{density:>8}" + "".join(f"{each / total[0]:>16.2f}" for each in total[1:]))


if __name__ == "__main__":
    main()
