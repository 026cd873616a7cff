"""Measure latency: build the network of every strategy and time it on this machine."""

import numpy as np
import torch
from torch import nn

from prune_gym.graph.configuration import Configuration
from prune_gym.graph.input_shapes import InputShape
from prune_gym.graph.layer_table import LayerTable
from prune_gym.profiling.session import Setting
from prune_gym.profiling.timing import loader, lowest_quartile_mean, time_calls

REPEATS, SECONDS = 5, 0.05


class MeasuredLatency:
    """The measured time of the whole pruned network on this machine.

    One strategy takes about half a second. A second measurement of the same strategy gives a
    different time, so results cannot be reproduced, and other programs on the machine disturb it.
    Layers whose weights have at most 8 bits run in int8, if the runtime has it. Densities do not
    change the time: the known runtimes gain nothing from them.
    """

    name = "latency"
    metric = "latency_ms"
    unit = "ms"
    deterministic = False
    platform_dependent = True

    def __init__(
        self,
        network: nn.Module,
        table: LayerTable,
        input_shape: InputShape,
        *,
        runtime: str = "onnxruntime",
        threads: int = 2,
        batch: int = 1,
    ) -> None:
        """Prepare to measure pruned copies of ``network``, which is not changed.

        Raises:
            UserError: no such runtime.
        """
        self._load = loader(network, table, runtime, Setting(batch, input_shape, threads))
        self._known: dict[bytes, float] = {}

    def __call__(self, configuration: Configuration) -> np.ndarray:
        """Return milliseconds of n strategies, float64 (n,); each strategy is measured once."""
        return np.array([self._one(configuration[row]) for row in range(len(configuration))])

    def _one(self, strategy: Configuration) -> float:
        key = strategy.key()
        if key not in self._known:
            self._known[key] = self._measure(strategy)
        return self._known[key]

    def _measure(self, strategy: Configuration) -> float:
        threads = torch.get_num_threads()
        try:
            session = self._load(strategy)
            times = [time for _ in range(REPEATS) for time in time_calls(session.run, SECONDS)]
        finally:
            torch.set_num_threads(threads)
        return lowest_quartile_mean(np.array(times))
