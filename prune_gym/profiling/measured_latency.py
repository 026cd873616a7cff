"""Latency by the clock: every strategy's network is built and timed on this machine."""

import numpy as np
import torch
from torch import nn

from prune_gym.graph.configuration import Configuration
from prune_gym.graph.layer_table import LayerTable
from prune_gym.profiling.runtimes import Setting
from prune_gym.profiling.timing import loader, quiet, visit

VISITS, SECONDS = 5, 0.05


class MeasuredLatency:
    """The time of a whole pruned network on this machine, in float32.

    For those who want the truth at every episode's end; it takes about half a second a strategy.
    The same strategy measured again gives another time, so results cannot be reproduced, and what
    else runs on the machine counts. Densities and bits do not change the time: the runtimes known
    here gain nothing from them.
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
        input_shape: tuple[int, int, int],
        *,
        runtime: str = "onnxruntime",
        threads: int = 2,
        batch: int = 1,
    ) -> None:
        """Measure cut copies of ``network``, which itself is left as it is.

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
            times = [time for _ in range(VISITS) for time in visit(session.run, SECONDS)]
        finally:
            torch.set_num_threads(threads)
        return quiet(np.array(times))
