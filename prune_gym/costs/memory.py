"""Peak memory of inference on one image."""

import numpy as np

from prune_gym.network.table import LayerTable
from prune_gym.realised import FLOAT_BITS, Realised


class Memory:
    """Weights plus the largest sum of live activations, batch 1, each in its bits.

    An activation lives from the layer that writes it to the last one that reads it. Batch-norm is
    folded and activation functions work in place, so neither holds a buffer of its own. Weights
    that are pruned away one by one still take their place: what that saves on disk is in ``size``.
    """

    name = "memory"
    metric = "memory_bytes"
    unit = "bytes"
    deterministic = True
    platform_dependent = False

    def __init__(self, table: LayerTable) -> None:
        """Take the activations of ``table``."""
        self._table = table
        self._vectors = np.array([layer.vectors for layer in table.layers], dtype=np.float64)
        self._pixels = np.array([a.pixels for a in table.activations], dtype=np.float64)
        steps = np.array(sorted({a.born for a in table.activations}))
        born = np.array([[a.born] for a in table.activations])
        dies = np.array([[a.dies] for a in table.activations])
        self._alive = ((born <= steps) & (steps <= dies)).astype(np.float64)
        self._in_block = np.array(
            [(steps >= block.steps[0]) & (steps <= block.steps[1]) for block in table.blocks],
            dtype=np.float64,
        ).reshape(len(table.blocks), len(steps))

    def __call__(self, realised: Realised) -> np.ndarray:
        """Return bytes of n strategies, float64 (n,)."""
        return self.weights(realised) + self.activations(realised)

    def weights(self, realised: Realised) -> np.ndarray:
        """Return the bytes of weights and vectors, float64 (n,)."""
        table = self._table
        outputs = table.outputs(realised.widths)
        if realised.blocks is not None:
            outputs *= table.runs(realised)
        weights = table.weights(realised)
        bits = FLOAT_BITS if realised.weight_bits is None else realised.weight_bits
        return ((weights * bits).sum(axis=1) + FLOAT_BITS * (outputs @ self._vectors)) / 8

    def activations(self, realised: Realised) -> np.ndarray:
        """Return the largest sum of live activations of one image in bytes, float64 (n,)."""
        numbers = self._table.activation_channels(realised.widths)
        numbers *= self._pixels * self._table.activation_bits(realised)
        live = numbers @ self._alive
        if realised.blocks is not None:  # the steps of a skipped block are never made
            live *= ((~realised.blocks) @ self._in_block) == 0
        return live.max(axis=1) / 8
