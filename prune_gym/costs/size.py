"""Compute the bytes on disk of the deployed network, for several coding schemes."""

import numpy as np

from prune_gym.errors import UserError, unknown
from prune_gym.graph.configuration import FLOAT_BITS, Configuration
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.layers import Layer

CODINGS = ("dense", "coo", "csr")
EMOMC_CODINGS = ("emomc-coo", "emomc-csr")
MAX_RICE_BITS = 16  # low bits of a gap that are stored as they are

Numbers = np.ndarray | np.floating


class Size:
    """The bytes of a file with the weights, their positions, biases and scales.

    Batch-norm is folded, so a layer has at most a bias; biases and scales are float32. Weights that
    share a mask share its position. Every section starts on a whole byte.

    The codings of `EMOMC_CODINGS` count as ``Evaluation.py`` of github.com/zhehui-wang/EMOMC
    does. A kept weight of q bits, in a layer of N weights, takes ``round(q + log2 N)`` bits
    ("emomc-coo") or ``q + 3`` bits ("emomc-csr"); biases and scales take nothing. These sizes
    are estimates: 3 bits cannot hold every gap, so no file has this size.
    """

    name = "size"
    metric = "size_bytes"
    unit = "bytes"
    deterministic = True
    platform_dependent = False

    def __init__(self, table: LayerTable, coding: str = "csr") -> None:
        """Take the layers of ``table``; ``coding`` is one of the codings above.

        Raises:
            UserError: no such coding.
        """
        if coding not in (*CODINGS, *EMOMC_CODINGS):
            raise UserError(unknown("coding", coding, (*CODINGS, *EMOMC_CODINGS)))
        self._table, self._coding = table, coding
        folded = {layer.follows for layer in table.layers}
        self._params_per_channel = np.array(
            [_floats_per_channel(layer, folded) for layer in table.layers]
        )

    def __call__(self, configuration: Configuration) -> np.ndarray:
        """Return bytes of n strategies, float64 (n,)."""
        table = self._table
        weights, nonzeros = table.weights(configuration), table.nonzeros(configuration)
        given = configuration.weight_bits
        if self._coding in EMOMC_CODINGS:
            index_bits = 3.0 if self._coding == "emomc-csr" else np.log2(np.maximum(weights, 1))
            return np.ascontiguousarray(nonzeros * np.rint(given + index_bits)).sum(axis=1) / 8
        bits = value_bits(self._coding, given, nonzeros, weights)
        stored = weights if self._coding == "dense" else nonzeros
        total = np.ceil(stored * bits / 8)
        if self._coding != "dense":
            rows, columns = table.weight_shapes(configuration.widths)
            size = table.mask_sizes(rows)
            places = place_bits(self._coding, nonzeros / size, weights / size, rows / size, columns)
            total += np.ceil(places / 8)
        return total.sum(axis=1) + FLOAT_BITS / 8 * self._floats(configuration, weights > 0)

    def _floats(self, configuration: Configuration, runs: np.ndarray) -> np.ndarray:
        """Return how many float32 numbers are stored beside the weights, (n,)."""
        outputs = self._table.running_outputs(configuration)
        count = outputs @ self._params_per_channel
        if not configuration.has_float_weights:  # a scale per output channel
            quantized = configuration.weight_bits < FLOAT_BITS
            count += (outputs[:, list(self._table.weighted)] * quantized).sum(axis=1)
        if not configuration.has_float_activations:  # a scale per layer
            count += ((configuration.activation_bits < FLOAT_BITS) & runs).sum(axis=1)
        return count


def _floats_per_channel(layer: Layer, folded: set[str]) -> float:
    """Return the float32 numbers per output channel that are stored beside a layer's weight."""
    if layer.has_weight:
        return float(layer.params_per_channel > 0 or layer.name in folded)
    if layer.kind == "batch_norm":  # scale, shift, mean and variance
        return 0.0 if layer.follows else 4.0
    return float(layer.params_per_channel)


def value_bits(coding: str, bits: Numbers, nonzeros: Numbers, weights: Numbers) -> np.ndarray:
    """Return the bits of one stored weight (same shape).

    One bit stores a sign, and a sign has no zero: a pruned layer takes two in the dense coding.
    """
    ternary = (coding == "dense") & (bits == 1) & (nonzeros < weights)
    return np.where(ternary, 2, bits)


def place_bits(
    coding: str, kept: Numbers, masks: Numbers, rows: Numbers, columns: Numbers
) -> np.ndarray:
    """Return the bits of the positions of the kept masks (same shape).

    Args:
        coding: "coo" or "csr".
        kept: masks that are kept.
        masks: all of them.
        rows: rows of masks (output channels over the channels that share one).
        columns: columns of masks.
    """
    if coding == "coo":
        return kept * (_index_bits(rows) + _index_bits(columns))
    return np.where(kept == masks, 0.0, rice(kept, masks)[0])


def rice(kept: Numbers, masks: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Return (bits, low bits k) of the shortest Rice code of the gaps between kept masks.

    A gap g takes k low bits and g >> k in unary, ended by one bit. All gaps together are at most
    ``masks - kept``, so ``kept (k + 1) + (masks - kept) >> k`` bits always suffice, for any
    positions of the masks; the file reserves that many.
    """
    kept, gaps = np.asarray(kept), np.asarray(masks - kept)
    low = np.arange(MAX_RICE_BITS + 1).reshape(-1, *[1] * gaps.ndim)
    bits = kept * (low + 1) + np.floor(gaps * 0.5**low)
    return bits.min(axis=0), bits.argmin(axis=0)


def _index_bits(count: Numbers) -> np.ndarray:
    """Return the bits of an index below ``count``."""
    return np.frexp(count - 1)[1].astype(np.float64)
