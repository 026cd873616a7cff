"""Follow the precision of tensors through a network: where do int8 and float layers meet?"""

import numpy as np

from prune_gym.graph.configuration import Configuration
from prune_gym.graph.layer_table import LayerTable


class Precisions:
    """Whether tensors are int8 or float, given which layers with weights run in int8.

    A layer writes its own precision. Whatever else writes a tensor (a pool, an addition, an
    activation function) keeps the precision of the latest tensor that it reads. The network's input
    is float; its conversion belongs to the first layer.
    """

    def __init__(self, table: LayerTable) -> None:
        """Take the activations of ``table``."""
        self._table = table
        columns = {table.layers[index].name: at for at, index in enumerate(table.weighted)}
        self._sources = [
            (columns.get(each.writer, -1), max(each.made_of, default=-1))
            for each in table.activations
        ]
        self._skipped = {block.activations[1]: at for at, block in enumerate(table.blocks)}
        self._at = {each.writer: at for at, each in enumerate(table.activations) if each.writer}
        known = [at for at, source in enumerate(self._sources) if max(source) >= 0]
        activations = table.activations
        reads = [(at, columns[name]) for at in known for name in activations[at].readers]
        self._reads = np.array(reads, dtype=np.intp).reshape(-1, 2).T
        joins = [
            (part, at)
            for at, each in enumerate(activations)
            for part in set(each.made_of) - {max(each.made_of, default=-1)}
            if part in known
        ]
        self._joins = np.array(joins, dtype=np.intp).reshape(-1, 2).T
        self._pixels = np.array([each.pixels for each in activations], dtype=np.float64)

    def tensors(self, configuration: Configuration, int8: np.ndarray) -> np.ndarray:
        """Return which activations are int8, bool (n, activations).

        Args:
            configuration: n strategies.
            int8: layers with weights that run in int8, bool (n, layers).
        """
        held = np.zeros((len(configuration), len(self._sources)), dtype=bool)
        for at, (column, source) in enumerate(self._sources):
            if column >= 0:
                held[:, at] = int8[:, column]
            elif source >= 0:
                held[:, at] = held[:, source]
            if at in self._skipped and not configuration.keeps_all_blocks:
                block = self._skipped[at]
                x = self._table.blocks[block].activations[0]
                held[:, at] = np.where(configuration.blocks[:, block], held[:, at], held[:, x])
        return held

    def written_by(self, indices: np.ndarray, tensors: np.ndarray) -> np.ndarray:
        """Return which of the layers at ``indices`` write int8, bool (n, len(indices))."""
        at = [self._at[self._table.layers[index].name] for index in indices]
        return tensors[:, at]

    def conversions(
        self, configuration: Configuration, int8: np.ndarray, tensors: np.ndarray
    ) -> np.ndarray:
        """Count the conversions between neighboring layers.

        Args:
            configuration: n strategies.
            int8: as of `tensors`.
            tensors: what `tensors` returned.

        Returns:
            Conversions to int8, millions of numbers converted to int8, and the same to float,
            float64 (n, 4).
        """
        (read, column), (part, total) = self._reads, self._joins
        wanted = np.concatenate([int8[:, column], tensors[:, total]], axis=1)
        given = np.concatenate([read, part])
        runs = np.ones((1, len(given)), dtype=bool)
        if not configuration.keeps_all_blocks:
            at = list(self._table.weighted)
            reader_runs = self._table.runs(configuration)[:, at][:, column] > 0
            kept = np.ones((len(configuration), len(total)), dtype=bool)
            for join, each in enumerate(total):
                if each in self._skipped:
                    kept[:, join] = configuration.blocks[:, self._skipped[each]]
            runs = np.concatenate([reader_runs, kept], axis=1)
        converted = (tensors[:, given] != wanted) & runs
        channels = self._table.activation_channels(configuration.widths)[:, given]
        millions = np.ascontiguousarray(channels * self._pixels[given] / 1e6)
        counted = []
        for direction in (converted & wanted, converted & ~wanted):
            counted += [direction.sum(axis=1), (millions * direction).sum(axis=1)]
        return np.stack(counted, axis=1)
