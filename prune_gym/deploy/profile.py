"""Measuring a latency table: every layer by itself, over a grid of channel counts.

Each layer is built as it is deployed (batch-norm folded, activation fused) with the channels of
the grid point, run many times, and its median time is kept with the spread. Before every timed call
the caches are emptied, as a layer's weights are gone from them when the network comes round again.
The time of a convolution that does next to nothing, measured in the same way, is what a call by
itself costs more than a layer inside a network, and is subtracted.
"""

import datetime
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.progress import track

from prune_gym.costs.latency import FORMAT, TIMED, signature
from prune_gym.deploy.runtimes import RUNTIMES, LayerModel
from prune_gym.errors import unknown
from prune_gym.network.table import Layer, LayerTable
from prune_gym.paths import write_atomically

GRID = (0.125, 0.25, 0.5, 0.75, 1.0)
WARM_UP, LEAST_REPEATS, MOST_REPEATS = 3, 15, 200
SECONDS_PER_POINT = 0.06
CACHE_BYTES = 96 * 2**20  # more than the last-level cache of the devices we know


def profile(
    table: LayerTable, *, device: str, runtime: str, threads: int, batch: int, out: Path
) -> None:
    """Measure all layers of ``table`` and write the latency table to ``out``.

    Args:
        table: the network's layer table.
        device: what the machine is called in the file.
        runtime: "onnxruntime" or "torch".
        threads: processor threads the runtime may use.
        batch: images at once.
        out: the JSON file.

    Raises:
        ValueError: no such runtime.
        ImportError: the runtime is not installed.
    """
    if runtime not in RUNTIMES:
        raise ValueError(unknown("runtime", runtime, RUNTIMES))
    build, version = RUNTIMES[runtime]
    _check_writable(out)
    nothing = build(LayerModel("conv", (1, 1), 1, (1, 1), 8, 8), batch, threads)
    idle_times: list[float] = []
    points = list(_points(table))
    layers: dict[str, dict] = {}
    for key, layer, i, o in track(points, description=f"{runtime} on {device}"):
        model = LayerModel(layer.kind, layer.kernel, layer.stride, layer.in_size, i, o)
        # Measured all along, as what a call costs drifts with the machine.
        idle_times.append(_median_ms(nothing)[0])
        middle, spread = _median_ms(build(model, batch, threads))
        entry = layers.setdefault(key, {"inputs": [], "outputs": [], "times": {}, "spreads": {}})
        entry["times"][i, o] = middle
        entry["spreads"][i, o] = spread
    idle = float(np.median(idle_times))
    content = {
        "format": FORMAT,
        "device": device,
        "processor": _processor(),
        "runtime": f"{runtime} {version()}",
        "python": platform.python_version(),
        "threads": threads,
        "batch": batch,
        "date": datetime.date.today().isoformat(),
        "repeats": f"{LEAST_REPEATS} to {MOST_REPEATS} after {WARM_UP} warm-up calls, median",
        "idle_call_ms": round(idle, 5),
        "layers": {key: _as_grid(entry, idle) for key, entry in layers.items()},
    }
    write_atomically(out, (json.dumps(content, indent=1) + "\n").encode())


def _points(table: LayerTable) -> Iterator[tuple[str, Layer, int, int]]:
    """Yield (signature, layer, inputs, outputs) of every grid point, equal layers once."""
    full_in = table.inputs(table.full[None])[0].astype(int)
    full_out = table.outputs(table.full[None])[0].astype(int)
    seen = set()
    for layer, i, o in zip(table.layers, full_in, full_out, strict=True):
        key = signature(layer, i, o)
        if layer.kind not in TIMED or key in seen:
            continue
        seen.add(key)
        inputs = _grid(i) if any(layer.inputs.per_group) else [int(i)]
        outputs = _grid(o) if any(layer.outputs.per_group) else [int(o)]
        yield from ((key, layer, a, b) for a in inputs for b in outputs)


def _grid(channels: int) -> list[int]:
    return sorted({max(1, round(share * int(channels))) for share in GRID})


def _check_writable(out: Path) -> None:
    """Raise OSError now and not after minutes of measuring."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("ab"):
        pass


def _as_grid(entry: dict, idle: float) -> dict:
    inputs = sorted({i for i, _ in entry["times"]})
    outputs = sorted({o for _, o in entry["times"]})

    def matrix(values: dict) -> list[list[float]]:
        return [[round(values[i, o], 5) for o in outputs] for i in inputs]

    return {
        "inputs": inputs,
        "outputs": outputs,
        "milliseconds": matrix({at: max(t - idle, 0.0) for at, t in entry["times"].items()}),
        "interquartile_range": matrix(entry["spreads"]),
    }


def _median_ms(call: Callable[[], object]) -> tuple[float, float]:
    """Return the median and the interquartile range of a call's time, in ms."""
    evict = np.ones(CACHE_BYTES // 4, np.float32)
    for _ in range(WARM_UP):
        call()
    times: list[float] = []
    end = time.perf_counter() + SECONDS_PER_POINT
    while len(times) < LEAST_REPEATS or (len(times) < MOST_REPEATS and time.perf_counter() < end):
        evict.sum()
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    low, middle, high = np.percentile(times, [25, 50, 75])
    return float(middle), float(high - low)


def _processor() -> str:
    """Return the processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} processors"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors"
