"""Compute the peak memory of inference."""

import numpy as np

from prune_gym.graph.configuration import FLOAT_BITS, Configuration
from prune_gym.graph.layer_table import LayerTable


class Memory:
    """Weights plus the largest sum of live activations of a batch, each in its bits.

    An activation is live from the layer that writes it to the last layer that reads it. Batch-norm
    is folded and activation functions work in place, so they hold no additional buffer. Single
    pruned weights still take memory; what they save on disk is in the cost ``size``.
    """

    name = "memory"
    metric = "memory_bytes"
    unit = "bytes"
    deterministic = True
    platform_dependent = False

    def __init__(self, table: LayerTable, batch_size: int = 1) -> None:
        """Take the activations of ``table``, for ``batch_size`` images at once."""
        self._table, self._batch_size = table, batch_size
        self._pixels = np.array([a.pixels for a in table.activations], dtype=np.float64)
        steps = np.array(sorted({a.live_from for a in table.activations}))
        live_from = np.array([[a.live_from] for a in table.activations])
        live_until = np.array([[a.live_until] for a in table.activations])
        self._alive = (live_from <= steps) & (steps <= live_until)
        self._counts = self._alive.astype(np.float64)
        self._in_block = np.array(
            [(steps >= block.steps[0]) & (steps <= block.steps[1]) for block in table.blocks],
            dtype=np.float64,
        ).reshape(len(table.blocks), len(steps))
        held = [(*block.activations, steps > block.steps[1]) for block in table.blocks]
        self._read_later = any((self._alive[x] & after).any() for x, _, after in held)

    def __call__(self, configuration: Configuration) -> np.ndarray:
        """Return bytes of n strategies, float64 (n,)."""
        return self.weights(configuration) + self._batch_size * self.activations(configuration)

    def weights(self, configuration: Configuration) -> np.ndarray:
        """Return the bytes of weights, biases, scales and slopes, float64 (n,)."""
        table = self._table
        bits = (table.weights(configuration) * configuration.weight_bits).sum(axis=1)
        return (bits + FLOAT_BITS * table.other_params(configuration)) / 8

    def activations(self, configuration: Configuration) -> np.ndarray:
        """Return the largest sum of live activations of one image in bytes, float64 (n,)."""
        numbers = self._table.activation_channels(configuration.widths)
        numbers *= self._pixels * self._table.activation_bits(configuration)
        live = numbers @ self._counts
        if not configuration.keeps_all_blocks:
            if self._read_later:
                live -= self._held_as_x(configuration.blocks, numbers)
            # The steps of a skipped block do not run.
            live *= ((~configuration.blocks) @ self._in_block) == 0
        return live.max(axis=1) / 8

    def _held_as_x(self, blocks: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Return the sums of skipped blocks that ``live`` counts twice, (n, steps).

        The sum of a skipped block and its x are one tensor, so the sum takes no memory while x is
        live. ``numbers`` are the bits of each activation, (n, activations).
        """
        twice = np.zeros((len(numbers), self._alive.shape[1]))
        alive: dict[int, np.ndarray] = {}  # (n, steps), of sums: also where their x is
        for block, kept in zip(self._table.blocks, blocks.T, strict=True):
            x, total = block.activations
            if not block.overwritten:
                as_x = ~kept[:, None] & alive.get(x, self._alive[x])
                twice += numbers[:, [total]] * (as_x & self._alive[total])
                alive[total] = as_x | self._alive[total]
        return twice
