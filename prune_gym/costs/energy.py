"""Compute the energy of inference on one image, after EMOMC (docs/costs.md derives it)."""

import math
from collections.abc import Sequence

import numpy as np

from prune_gym.errors import UserError, unknown
from prune_gym.graph.configuration import FLOAT_BITS, Configuration
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.layers import Product

# Picojoules on an FPGA. The paper prints no constants; its released code
# (github.com/zhehui-wang/EMOMC, Evaluation.py) charges 7.28 pJ for reading 16 bits, 4.47 pJ for
# writing 16 bits, and 1.02 (q + 1) pJ for a multiply-add of a 16-bit float and q bits, which 0.1 pJ
# per one-bit adder meets within 4 % for q = 8 to 23.
ADDER_PJ = 0.1
READ_PJ = 7.28 / 16
WRITE_PJ = 4.47 / 16
MILLIJOULES = 1e-9  # in a picojoule

# Bits of an operand -> bits that are multiplied: floats (16 and 32 bits) multiply their mantissas.
MANTISSA = np.arange(FLOAT_BITS + 1, dtype=np.float64)
MANTISSA[[16, 32]] = 10, 23

Dimensions = dict[str, np.ndarray]
DATAFLOWS = ("X:Y", "FX:FY", "X:FX", "CI:CO")


def sharing(dataflow: str, d: Dimensions) -> tuple:
    """Return how many multiply-adds share one access to (an input, a weight, a sum).

    ``dataflow`` names the loops that are unrolled in space; ``d`` has the bounds of all loops.
    """
    if dataflow == "X:Y":
        return 1.0, d["X"] * d["Y"], d["FX"] * d["FY"] * d["CI"]
    if dataflow == "FX:FY":
        return 1.0, d["X"] * d["Y"], d["FX"] * d["FY"]
    if dataflow == "X:FX":
        return d["FX"], d["X"], d["FX"]
    return d["CO"], 1.0, d["CI"]


class Energy:
    """The energy to multiply, add and move bits for one image; pruned weights are skipped.

    A multiplier of M x N bits (M >= N) is made of (M - 1) N one-bit adders. Products of attention
    are linear layers of one pixel per row, whose weights are the second matrix; both matrices are
    float32, as in the networks that are scored.
    """

    name = "energy"
    metric = "energy_mj"
    unit = "mJ"
    deterministic = True
    platform_dependent = False

    def __init__(self, table: LayerTable, dataflow: str = "X:Y") -> None:
        """Take the layers of ``table``; ``dataflow`` is one of `DATAFLOWS`.

        Raises:
            UserError: no such dataflow.
        """
        if dataflow not in DATAFLOWS:
            raise UserError(unknown("dataflow", dataflow, DATAFLOWS))
        self._table, self._dataflow = table, dataflow
        layers = [table.layers[index] for index in table.weighted]
        self._depthwise = np.array([layer.kind == "depthwise" for layer in layers])
        self._groups = np.array([layer.groups for layer in layers], dtype=np.float64)
        self._full_rows = table.weight_shapes(table.full[None])[0][0]
        height, width = _two_loops([layer.out_size for layer in layers])
        rows, columns = _two_loops([layer.kernel for layer in layers])
        self._sizes = {"X": width, "Y": height, "FX": columns, "FY": rows}
        self._attention = [i for i, layer in enumerate(table.layers) if layer.products]
        self._of_heads = np.array(
            [sum(map(self._of_product, table.layers[i].products)) for i in self._attention]
        )

    def __call__(self, configuration: Configuration) -> np.ndarray:
        """Return millijoules of n strategies, float64 (n,)."""
        table, pixels = self._table, self._table.weighted_pixels
        rows, columns = table.weight_shapes(configuration.widths)
        weights, nonzeros = table.weights(configuration), table.nonzeros(configuration)
        density = None if configuration.is_dense else nonzeros / np.maximum(weights, 1)
        shared = sharing(self._dataflow, self._loops(rows, columns))
        bits = (
            np.int64(FLOAT_BITS) if untouched else bits
            for untouched, bits in (
                (configuration.has_float_weights, configuration.weight_bits),
                (configuration.has_float_activations, configuration.activation_bits),
            )
        )
        picojoules = _of_pixel(rows, columns, weights, nonzeros, density, shared, *bits) * pixels
        if self._attention:
            heads = table.running_outputs(configuration)[:, self._attention]
            picojoules = np.concatenate([picojoules, heads * self._of_heads], axis=1)
        # Not a product of matrices: that sums one strategy in another order than a batch of them.
        return np.ascontiguousarray(picojoules).sum(axis=1) * MILLIJOULES

    def _loops(self, rows: np.ndarray, columns: np.ndarray) -> Dimensions:
        """Return the bounds of the loops of weight matrices with these rows and columns."""
        return self._sizes | {
            "CI": columns / (self._sizes["FX"] * self._sizes["FY"]),
            # A cut depthwise layer has fewer groups; the outputs of each group do not change.
            "CO": np.where(self._depthwise, self._full_rows, rows) / self._groups,
        }

    def _of_product(self, product: Product) -> float:
        """Return the picojoules of products of two matrices."""
        sizes = (product.rows, product.inner, product.columns)
        pixels, inputs, outputs = (np.array(size, dtype=np.float64) for size in sizes)
        one, weights = np.array(1.0), inputs * outputs
        loops = {"X": pixels, "Y": one, "FX": one, "FY": one, "CI": inputs, "CO": outputs}
        bits = np.int64(FLOAT_BITS)
        shared = sharing(self._dataflow, loops)
        each = _of_pixel(outputs, inputs, weights, weights, None, shared, bits, bits)
        return product.count * float(each * pixels)


def _of_pixel(
    rows: np.ndarray,
    columns: np.ndarray,
    weights: np.ndarray,
    nonzeros: np.ndarray,
    density: np.ndarray | None,
    shared: tuple,
    weight_bits: np.ndarray | np.int64,
    activation_bits: np.ndarray | np.int64,
) -> np.ndarray:
    """Return the picojoules of layers for one output pixel, (n, layers).

    ``shared`` is what :func:`sharing` returns; ``density`` is None where all weights are kept.
    """
    by_input, by_weight, by_sum = shared
    adders, sum_bits = _arithmetic(weight_bits, activation_bits, columns)
    picojoules = ADDER_PJ * adders * nonzeros
    picojoules += READ_PJ / by_weight * weight_bits * nonzeros
    picojoules += READ_PJ * activation_bits * weights / by_input * _needed(density, by_input)
    # The first visit writes an output; every later visit reads and writes it.
    begun = rows * (weights > 0)
    visits = (weights / by_sum - begun) * _needed(density, by_sum)
    picojoules += sum_bits * (WRITE_PJ * begun + (READ_PJ + WRITE_PJ) * visits)
    return picojoules


def _two_loops(sizes: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Return the bounds of the loop over the last dimension, and of one over all before it."""
    pairs = [(math.prod(size[:-1]), size[-1]) for size in sizes]
    return np.array(pairs, dtype=np.float64).T


def _needed(density: np.ndarray | None, sharers: np.ndarray | float) -> np.ndarray | float:
    """Return the share of accesses that at least one of ``sharers`` random weights needs."""
    if density is None:
        return 1.0
    return 1.0 - (1.0 - density) ** sharers


def _arithmetic(
    weight_bits: np.ndarray | np.int64, activation_bits: np.ndarray | np.int64, fan_in: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return one-bit adders per multiply-add and bits of its sum, (n, layers) each.

    A sum of integers has as many bits as it needs, at most 32; a sum of floats is a float32.
    """
    a, b = MANTISSA[weight_bits], MANTISSA[activation_bits]
    is_float = (weight_bits >= 16) | (activation_bits >= 16)
    exact = np.minimum(weight_bits + activation_bits + np.ceil(np.log2(fan_in)), FLOAT_BITS)
    multiply = (np.maximum(a, b) - 1) * np.minimum(a, b)
    add = np.where(is_float, MANTISSA[FLOAT_BITS], exact)
    return multiply + add, np.where(is_float, FLOAT_BITS, exact)
