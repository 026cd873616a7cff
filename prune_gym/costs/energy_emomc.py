"""Energy as the released code of EMOMC counts it (docs/costs.md compares both accountings)."""

import numpy as np

from prune_gym.costs.energy import MILLIJOULES, Energy, sharing
from prune_gym.graph.configuration import Configuration
from prune_gym.graph.layer_table import LayerTable

# Picojoules, from Evaluation.py of github.com/zhehui-wang/EMOMC.
MULTIPLY_ADD_PJ = 1.02  # for each of q + 1 bits of a weight, times a 16-bit activation
READ_WORD_PJ = 7.28  # 16 bits
WRITE_WORD_PJ = 4.47
WORD_BITS = 16
ALWAYS_NEEDED = 24  # more channels than this share every access, at any density (CI:CO)


class EmomcEnergy(Energy):
    """Energy of one image in the accounting of Wang et al. 2021, doi:10.1109/MCI.2021.3084393.

    The source is the released code, ``Evaluation.py`` of github.com/zhehui-wang/EMOMC, because the
    paper does not print its constants. With M multiply-adds of a dense layer, density p, weights of
    q bits, and an access to an input, weight or sum shared by s_i, s_w, s_o multiply-adds
    (`prune_gym.costs.energy.sharing`), a layer takes, in pJ:

    - multiply-adds: ``1.02 (q + 1) p M``;
    - weights: ``7.28 (q + 1) / 16 * M / s_w``; weights of value 0 are read too;
    - inputs: ``7.28 M / s_i * (1 - (1 - p)^s_i)``;
    - sums: ``(4.47 + 7.28) M / s_o * (1 - (1 - p)^s_o)``; where the sum stays in place until it is
      complete (X:Y, and linear layers in every dataflow), ``4.47 M / s_o``.

    Products of attention are left out: the code knows no layer without weights.

    Activations and sums have 16 bits, whatever the strategy says. A weight that is not quantized
    has q = 32. In CI:CO, layers with more than 24 output channels read every input, and layers with
    more than 24 input channels read and write every sum, at any density.
    """

    def __init__(self, table: LayerTable, dataflow: str = "X:Y") -> None:
        """Take the layers of ``table``; ``dataflow`` names the loops that are unrolled in space.

        Raises:
            UserError: no such dataflow.
        """
        super().__init__(table, dataflow)
        self._linear = np.array([table.layers[i].kind == "linear" for i in table.weighted])

    def __call__(self, configuration: Configuration) -> np.ndarray:
        """Return millijoules of n strategies, float64 (n,)."""
        table = self._table
        weights, nonzeros = table.weights(configuration), table.nonzeros(configuration)
        density = nonzeros / np.maximum(weights, 1)
        bits = configuration.weight_bits
        loops = self._loops(*table.weight_shapes(configuration.widths))
        in_flow, in_place = (sharing(flow, loops) for flow in (self._dataflow, "X:Y"))
        by_input, by_weight, by_sum = (
            np.where(self._linear, stays, moves)
            for stays, moves in zip(in_place, in_flow, strict=True)
        )
        visits = weights / by_sum * self._needed(density, by_sum)
        stays = self._linear | (self._dataflow == "X:Y")
        moved = np.where(
            stays, WRITE_WORD_PJ * weights / by_sum, (READ_WORD_PJ + WRITE_WORD_PJ) * visits
        )
        moved += READ_WORD_PJ * weights / by_input * self._needed(density, by_input)
        moved += READ_WORD_PJ / WORD_BITS * (bits + 1) * weights / by_weight
        picojoules = moved + MULTIPLY_ADD_PJ * (bits + 1) * nonzeros
        # Not a product of matrices: that sums one strategy in another order than a batch of them.
        pixels = table.weighted_pixels
        return np.ascontiguousarray(picojoules * pixels).sum(axis=1) * MILLIJOULES

    def _needed(self, density: np.ndarray, sharers: np.ndarray) -> np.ndarray:
        """Return the share of accesses that at least one of ``sharers`` random weights needs."""
        always = (self._dataflow == "CI:CO") & (sharers > ALWAYS_NEEDED) & ~self._linear
        return np.where(always, 1.0, 1.0 - (1.0 - density) ** sharers)
