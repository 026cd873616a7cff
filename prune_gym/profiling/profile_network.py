"""Measure a latency table: time layers inside whole networks of designed widths.

Networks are cut to the widths of an experimental design, folded, and loaded into the runtime as
they are deployed. The profiler of the runtime gives the time of every node. Each node counts to the
layer that it belongs to, so fused activations, additions, conversions of layout and warm caches are
measured as they occur in use. The sums are scaled to the time of the same network without profiler.
"""

import datetime
import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prune_gym._utils.paths import write_atomically
from prune_gym._utils.progress import OnProgress, ignore_progress, reported
from prune_gym.costs.latency import INT8_BITS
from prune_gym.costs.latency_table import (
    CONVERSIONS,
    FORMAT,
    LatencyTable,
    LayerTimes,
    load_latency_table,
)
from prune_gym.errors import UserError
from prune_gym.graph.configuration import FLOAT_BITS
from prune_gym.graph.input_shapes import InputShapes
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.trace import trace
from prune_gym.profiling.design_of_experiments import lattice, random_bits, random_strategies
from prune_gym.profiling.fit_conversions import fit_conversions
from prune_gym.profiling.fit_latency_table import Run, fit, run_errors
from prune_gym.profiling.runtimes import runtime_named
from prune_gym.profiling.session import Setting
from prune_gym.profiling.timing import DISTURBED_RATIO, PASSES, Timed, loader, timed

LATTICE_RUNS, RANDOM_RUNS = 60, 90
MIXED_RUNS = 60  # with layers of both precisions
MIN_UNDISTURBED_SHARE = 0.25  # of the runs of a precision; fewer do not make a table
DESIGN_SEED = 1  # not the seed of a check
FIXED_PER_FILE = ("device", "processor", "runtime", "version", "threads", "batch")


def profile(
    network: nn.Module,
    *,
    name: str,
    device: str,
    runtime: str,
    setting: Setting,
    out: Path,
    int8: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> None:
    """Measure a network and add the times of its layers to the file ``out``.

    Args:
        network: the network, uncut; its weights do not matter.
        name: name of the network in the file.
        device: name of the machine in the file.
        runtime: a name out of ``prune_gym.profiling.runtimes.RUNTIMES``.
        setting: batch, image shape and threads.
        out: the JSON file; entries of the same layers are replaced.
        int8: measure the layers in int8 too, and the conversions between the two precisions.
        on_progress: called after every measured network with their number and their total.

    Raises:
        UserError: no such runtime, or it has no int8; or ``out`` is not a latency table, or is the
            table of a different device, runtime or setting; or the machine is too busy.
        MissingExtraError: the runtime is not installed.
        OSError: ``out`` cannot be written.
    """
    if int8 and not runtime_named(runtime).has_int8:
        raise UserError(f"the runtime {runtime} has no int8; take onnxruntime")
    if isinstance(setting.input_shape, InputShapes):
        raise UserError(
            f"{name} reads several inputs ({setting.input_shape}), and a latency table is for "
            'networks that read one: limit another cost, or take latency="measured" in an '
            "environment"
        )
    about = {
        "device": device,
        "processor": processor(),
        "runtime": runtime,
        "version": runtime_named(runtime).version(),
        "threads": setting.threads,
        "batch": setting.batch,
    }
    content = _content(out, about)
    table = trace(network, setting.input_shape)
    runs = measure(network, table, runtime, setting, int8, on_progress)
    known = load_latency_table(str(out)) if out.exists() else LatencyTable({}, {})
    floats = [run for run in runs if run.precision == "float"]
    latency, spreads = fit(table, floats, known.streaming)
    errors = np.abs(run_errors(table, latency, floats))
    content["networks"][name] = {
        "input_shape": list(setting.input_shape),
        "date": datetime.date.today().isoformat(),
        "runs": len(runs),
        "passes": PASSES,
        "median_error": round(float(np.median(errors)), 4),
    }
    content["streaming"] = asdict(latency.streaming)
    entries = _entries(latency, spreads)
    if int8:
        eight, spreads = fit(table, [r for r in runs if r.precision == "int8"], streams=False)
        for key, entry in _entries(eight, spreads).items():
            entries[key]["int8"] = entry
        layers = {
            key: replace(layer, int8=eight.layers[key]) for key, layer in latency.layers.items()
        }
        mixed = [run for run in runs if run.precision == "mixed"]
        found = fit_conversions(
            table,
            replace(latency, layers=layers),
            table.configuration(
                np.stack([run.widths for run in mixed]),
                weight_bits=np.stack([run.weight_bits for run in mixed]),
            ),
            np.array([run.timed.milliseconds for run in mixed]),
        )
        content["networks"][name]["conversions"] = np.round(found, 6).tolist()
        content["conversions"] = _mean_conversions(content["networks"])
    content["layers"].update(entries)
    write_atomically(out, (json.dumps(content, indent=1) + "\n").encode())


def measure(
    network: nn.Module,
    table: LayerTable,
    runtime: str,
    setting: Setting,
    int8: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> list[Run]:
    """Time the networks of the design in random order, so that drift favors no width.

    With ``int8`` the same widths are timed in int8 too, and random ones with layers of both
    precisions. Runs that stayed disturbed are left out.

    Raises:
        UserError: too few runs of a precision were undisturbed.
    """
    runtime_named(runtime).share_threads(setting.threads)
    rng = np.random.default_rng(DESIGN_SEED)
    designed = [widths for widths in rng.permutation(lattice(table))[:LATTICE_RUNS]]
    designed += random_strategies(table, RANDOM_RUNS, DESIGN_SEED)
    widths = np.stack(designed)
    bits = np.full((len(widths), len(table.weighted)), FLOAT_BITS)
    if int8:
        mixed = random_bits(table, MIXED_RUNS, DESIGN_SEED)
        bits = np.concatenate([bits, np.full_like(bits, INT8_BITS), mixed])
        others = random_strategies(table, MIXED_RUNS, DESIGN_SEED + 1)
        widths = np.concatenate([widths, widths, np.stack(others)])
    order = rng.permutation(len(widths))
    shuffled = table.configuration(widths[order], weight_bits=bits[order])
    load = loader(network, table, runtime, setting)
    pairs = timed(load, table.configuration(), shuffled, nodes=True)
    measured = list(reported(pairs, len(shuffled), on_progress))
    runs = [
        Run(shuffled.widths[row], each, shuffled.weight_bits[row])
        for row, each in enumerate(drift_corrected(measured))
    ]
    best = min(original.milliseconds for _, original in measured)
    disturbed = [original.milliseconds > DISTURBED_RATIO * best for _, original in measured]
    return _undisturbed(runs, disturbed)


def _undisturbed(runs: Sequence[Run], disturbed: Sequence[bool]) -> list[Run]:
    """Return the undisturbed runs, if there are enough of each precision."""
    kept = [run for run, bad in zip(runs, disturbed, strict=True) if not bad]
    every, undisturbed = (Counter(run.precision for run in some) for some in (runs, kept))
    for precision, total in every.items():
        if undisturbed[precision] < MIN_UNDISTURBED_SHARE * total:
            raise UserError(
                f"this machine is too busy to measure: other programs disturbed "
                f"{total - undisturbed[precision]} of {total} runs in {precision} precision. "
                "Close them and profile again"
            )
    return kept


def _mean_conversions(networks: dict[str, Any]) -> dict[str, list[float]]:
    """Return the mean over the networks of a file, by direction."""
    every = [each["conversions"] for each in networks.values() if "conversions" in each]
    to_int8, to_float = np.round(np.mean(every, axis=0), 6).reshape(2, 2).tolist()
    return dict(zip(CONVERSIONS, (to_int8, to_float), strict=True))


def drift_corrected(pairs: Sequence[tuple[Timed, Timed]]) -> list[Timed]:
    """Return times corrected for drift: scaled to the best time of the original network."""
    usual = min(original.milliseconds for _, original in pairs)
    return [_scaled(each, usual / original.milliseconds) for each, original in pairs]


def _scaled(each: Timed, factor: float) -> Timed:
    return replace(
        each,
        milliseconds=each.milliseconds * factor,
        spread=each.spread * factor,
        nodes=each.nodes * factor,
        node_spread=each.node_spread * factor,
    )


def _content(out: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Return the content of the file, or the content of a new file.

    Raises:
        UserError: the file is not a latency table, or is that of a different setting.
        OSError: it cannot be written; better to know before minutes of measuring.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(out if out.exists() else out.parent, os.W_OK):
        raise PermissionError(f"{out} cannot be written")
    if not out.exists():
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        return {"format": FORMAT, **about, **versions, "networks": {}, "layers": {}}
    load_latency_table(str(out))
    content = json.loads(out.read_text())
    for key in FIXED_PER_FILE:
        if content.get(key) != about[key]:
            raise UserError(
                f"{out} has {key} {content.get(key)!r} and this measurement {about[key]!r}; "
                "write to another file"
            )
    content.setdefault("networks", {})
    return content


def _entries(latency: LatencyTable, spreads: dict[str, np.ndarray]) -> dict[str, dict]:
    return {key: _entry(layer, spreads[key]) for key, layer in latency.layers.items()}


def _entry(layer: LayerTimes, spread: np.ndarray) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "inputs": [int(point) for point in layer.axes[0]],
        "outputs": [int(point) for point in layer.axes[1]],
        "round_up": layer.round_up,
        "milliseconds": np.round(layer.milliseconds[:, :, 0, 0], 5).tolist(),
        "interquartile_range": np.round(spread, 5).tolist(),
    }
    if layer.unfilled is not None:
        entry["unfilled_milliseconds"] = np.round(layer.unfilled, 5).tolist()
    return entry


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} processors"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors"
