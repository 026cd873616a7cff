"""Time many networks side by side on a machine whose speed drifts."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.surgery import cut, first_channels
from prune_gym.costs.latency import INT8_BITS
from prune_gym.graph.configuration import Configuration
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.residual_blocks import for_inference, skip_blocks
from prune_gym.profiling.runtimes import runtime_named
from prune_gym.profiling.session import Session, Setting

PASSES = 6
WARM_UP_SECONDS, VISIT_SECONDS = 0.003, 0.008
PROFILED_WARM_UP, PROFILED_CALLS = 2, 6
MAX_ATTEMPTS = 3
DISTURBED_RATIO = 1.2  # of the best time of the original network; above it, time again
NETWORKS_AT_ONCE = 16  # held in memory together

Loader = Callable[[Configuration], Session]  # loads the network of one strategy


@dataclass(frozen=True)
class Timed:
    """The measured times of one network, in ms.

    Attributes:
        milliseconds: time of one call.
        spread: interquartile range of the calls.
        layers: layer that each node belongs to; empty where nodes were not timed.
        nodes: time of each node by the profiler of the runtime, ``float64 (nodes,)``.
        node_spread: interquartile range of each node, ``float64 (nodes,)``.
    """

    milliseconds: float
    spread: float
    layers: tuple[str, ...] = ()
    nodes: np.ndarray = field(default_factory=lambda: np.zeros(0))
    node_spread: np.ndarray = field(default_factory=lambda: np.zeros(0))


def lowest_quartile_mean(times: np.ndarray) -> float:
    """Return the mean of the lowest quarter of the times.

    A disturbance can only add time, so the lowest times are nearest to the truth. Their mean has a
    finer resolution than a quantile, because clocks count whole microseconds.
    """
    return float(times[_lowest_quartile(times)].mean())


def _lowest_quartile(times: np.ndarray) -> np.ndarray:
    return np.argsort(times)[: (len(times) + 3) // 4]


def deployed(network: nn.Module, table: LayerTable, configuration: Configuration) -> nn.Module:
    """Return the network of one strategy (a batch of one) as it is deployed, in float32.

    It keeps the first channels and is not repaired: time does not depend on the values of weights.
    """
    candidate = cut(network, table, first_channels(table, configuration.widths[0])).eval()
    fold_batch_norm(candidate, table)
    kept = None if configuration.blocks is None else configuration.blocks[0]
    small = skip_blocks(candidate, table.skipped(kept), table.input_shape)
    return for_inference(small, table.input_shape)


def loader(network: nn.Module, table: LayerTable, runtime: str, setting: Setting) -> Loader:
    """Return a function that loads the network of a strategy.

    Layers whose weights have at most 8 bits run in int8, if the runtime has it.

    Raises:
        UserError: no such runtime.
    """
    known = runtime_named(runtime)
    return lambda configuration: known.load(
        deployed(network, table, configuration),
        table,
        setting,
        int8_layers(table, configuration) if known.has_int8 else (),
    )


def int8_layers(table: LayerTable, configuration: Configuration) -> list[str]:
    """Return the names of the layers of one strategy whose weights have at most 8 bits."""
    names = np.array([table.layers[index].name for index in table.weighted])
    runs = table.runs(configuration)[0, list(table.weighted)] > 0
    return names[(configuration.weight_bits[0] <= INT8_BITS) & runs].tolist()


def time_calls(run: Callable[[], object], seconds: float = VISIT_SECONDS) -> list[float]:
    """Call ``run`` repeatedly for some seconds, after a warm-up; return the ms of each call."""
    end = time.perf_counter() + WARM_UP_SECONDS
    run()
    while time.perf_counter() < end:
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def timed(
    load: Loader, original: Configuration, strategies: Configuration, *, nodes: bool
) -> Iterator[tuple[Timed, Timed]]:
    """Time n strategies and yield a pair (strategy, original network) for each.

    Several networks and the original take turns. The time of the original in the same turns tells
    how fast the machine was. Where it was much slower than its best, another program was running,
    and the turns are repeated.
    """
    reference, best = load(original), np.inf
    for start in range(0, len(strategies), NETWORKS_AT_ONCE):
        some = strategies[start : start + NETWORKS_AT_ONCE]
        sessions = [load(some[row]) for row in range(len(some))]
        calls: list[list[float]] = [[] for _ in range(len(some) + 1)]
        for _ in range(MAX_ATTEMPTS):
            _time_in_turns([*sessions, reference], calls, nodes)
            best = min(best, lowest_quartile_mean(np.array(calls[-1])))
            if lowest_quartile_mean(np.array(calls[-1])) <= DISTURBED_RATIO * best:
                break
        unpruned = _timed(reference, calls[-1], nodes=False)
        for session, times in zip(sessions, calls, strict=False):
            yield _timed(session, times, nodes), unpruned


def _time_in_turns(sessions: Sequence[Session], calls: list[list[float]], nodes: bool) -> None:
    """Call the sessions in turns, that of the original last, and append their times."""
    for _ in range(PASSES):
        for session, times in zip(sessions, calls, strict=True):
            times += time_calls(session.run)
            if nodes and session is not sessions[-1]:
                for _ in range(PROFILED_WARM_UP + PROFILED_CALLS):
                    session.run_profiled()


def _timed(session: Session, calls: list[float], nodes: bool) -> Timed:
    milliseconds, spread = lowest_quartile_mean(np.array(calls)), float(_spread(np.array(calls)))
    if not nodes:
        return Timed(milliseconds, spread)
    layers, times = session.node_times()
    warm = times.reshape(-1, PROFILED_WARM_UP + PROFILED_CALLS, len(layers))[
        :, PROFILED_WARM_UP:
    ].reshape(-1, len(layers))
    # The quickest whole calls: the quickest times of single nodes do not occur together.
    quickest = warm[_lowest_quartile(warm.sum(axis=1))].mean(axis=0)
    return Timed(milliseconds, spread, tuple(layers), quickest, _spread(warm))


def _spread(times: np.ndarray) -> np.ndarray:
    low, high = np.percentile(times, [25, 75], axis=0)
    return high - low
