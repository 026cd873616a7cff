"""Timing many networks side by side on a machine whose speed drifts."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.surgery import cut, first_channels
from prune_gym.graph.configuration import Configuration
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.residual_blocks import skip_blocks
from prune_gym.profiling.runtimes import Session, Setting, runtime_named

PASSES = 6
WARM_UP_SECONDS, VISIT_SECONDS = 0.003, 0.008
PROFILED_WARM_UP, PROFILED_CALLS = 2, 6
ATTEMPTS, DISTURBED = 3, 1.2
AT_ONCE = 16  # networks that are held in memory together

Loader = Callable[[Configuration], Session]  # loads the network of one strategy


@dataclass(frozen=True)
class Timed:
    """What was measured of one network, in ms.

    Attributes:
        milliseconds: of a call.
        spread: interquartile range of the calls.
        layers: of each node, the layer it belongs to; empty where nodes were not timed.
        nodes: of each node, as the runtime's profiler gives them, ``float64 (nodes,)``.
        node_spread: interquartile range, ``float64 (nodes,)``.
    """

    milliseconds: float
    spread: float
    layers: tuple[str, ...] = ()
    nodes: np.ndarray = field(default_factory=lambda: np.zeros(0))
    node_spread: np.ndarray = field(default_factory=lambda: np.zeros(0))


def quiet(times: np.ndarray) -> float:
    """Return the mean of the lowest quarter of some calls' times.

    What disturbs a measurement adds time and never takes any away, so these are nearest to the
    truth; a mean resolves more than a quantile of whole microseconds.
    """
    return float(times[_quietest(times)].mean())


def _quietest(times: np.ndarray) -> np.ndarray:
    return np.argsort(times)[: (len(times) + 3) // 4]


def deployed(network: nn.Module, table: LayerTable, configuration: Configuration) -> nn.Module:
    """Return the network of one strategy (a batch of one) as it is deployed, float32.

    Its weights are the first channels' and not repaired: time does not depend on their values.
    """
    candidate = cut(network, table, first_channels(table, configuration.widths[0])).eval()
    fold_batch_norm(candidate, table)
    kept = None if configuration.blocks is None else configuration.blocks[0]
    return skip_blocks(candidate, table.skipped(kept), table.input_shape)


def loader(network: nn.Module, table: LayerTable, runtime: str, setting: Setting) -> Loader:
    """Return a function that loads the network of a strategy.

    Raises:
        UserError: no such runtime.
    """
    load = runtime_named(runtime).load
    return lambda configuration: load(deployed(network, table, configuration), table, setting)


def visit(run: Callable[[], object], seconds: float = VISIT_SECONDS) -> list[float]:
    """Call again and again for some time, after a warm-up, and return ms of each call."""
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
    load: Loader, table: LayerTable, strategies: Sequence[np.ndarray], *, nodes: bool
) -> Iterator[tuple[Timed, Timed]]:
    """Time strategies (each int (groups,)) and yield (strategy, original network) for each.

    Groups of networks are visited in turn, several times, together with the original network,
    whose time in the same turns says how fast the machine was. Where it was much slower than at its
    best, something else was running, and the turns are repeated.
    """
    reference, best = load(Configuration(table.full[None])), np.inf
    for start in range(0, len(strategies), AT_ONCE):
        some = strategies[start : start + AT_ONCE]
        sessions = [load(Configuration(widths[None])) for widths in some]
        calls: list[list[float]] = [[] for _ in range(len(some) + 1)]
        for _ in range(ATTEMPTS):
            _visit_in_turn([*sessions, reference], calls, nodes)
            best = min(best, quiet(np.array(calls[-1])))
            if quiet(np.array(calls[-1])) <= DISTURBED * best:
                break
        original = _timed(reference, calls[-1], nodes=False)
        for session, times in zip(sessions, calls, strict=False):
            yield _timed(session, times, nodes), original


def _visit_in_turn(sessions: Sequence[Session], calls: list[list[float]], nodes: bool) -> None:
    """Visit sessions, the original network's last, and add to each one's times."""
    for _ in range(PASSES):
        for session, times in zip(sessions, calls, strict=True):
            times += visit(session.run)
            if nodes and session is not sessions[-1]:
                for _ in range(PROFILED_WARM_UP + PROFILED_CALLS):
                    session.run_profiled()


def _timed(session: Session, calls: list[float], nodes: bool) -> Timed:
    milliseconds, spread = quiet(np.array(calls)), float(_spread(np.array(calls)))
    if not nodes:
        return Timed(milliseconds, spread)
    layers, times = session.node_times()
    warm = times.reshape(-1, PROFILED_WARM_UP + PROFILED_CALLS, len(layers))[
        :, PROFILED_WARM_UP:
    ].reshape(-1, len(layers))
    # The quietest calls, not the quietest times of each node, which never come together.
    calm = warm[_quietest(warm.sum(axis=1))].mean(axis=0)
    return Timed(milliseconds, spread, tuple(layers), calm, _spread(warm))


def _spread(times: np.ndarray) -> np.ndarray:
    low, high = np.percentile(times, [25, 75], axis=0)
    return high - low
