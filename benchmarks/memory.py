"""The memory cost beside what PyTorch and ONNX Runtime really hold, for random strategies.

    python benchmarks/memory.py [--strategies 20] [--batches 1 16] [--networks VGG16 ResNet-56]

PyTorch: folded, channels-last, activation functions in place, inference mode; the running sum of
the profiler's allocations, plus the weights and the images. ONNX Runtime: a process per strategy,
one thread; the resident set at its highest during a run (VmHWM, reset before it) less that before
the session.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import fx, nn
from torch.nn import functional as F

from prune_gym import models
from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.surgery import cut, first_channels
from prune_gym.costs.memory import Memory
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.trace import trace
from prune_gym.models.resnet import resnet56

NETWORKS = {"VGG16": lambda: models.build("vgg16", 10), "ResNet-56": resnet56}


def in_place(network: nn.Module) -> fx.GraphModule:
    """Return the network with every ReLU in place; a traced one frees what is read no more."""
    graph = fx.symbolic_trace(network)
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target is F.relu:
            node.kwargs = {"inplace": True}
    graph.recompile()
    return graph


def torch_peak(network: nn.Module, images: torch.Tensor) -> int:
    """Return the bytes that a forward pass holds at most."""
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = images.to(memory_format=torch.channels_last)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.inference_mode():
        network(images)
        with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
            network(images)
    events = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    held = np.cumsum([size for _, size in sorted(changes, key=lambda change: change[0])])
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    return weights + images.numel() * images.element_size() + int(held.max())


def status(field: str) -> int:
    """Return a field of this process's status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def run_onnx(path: str, arena: bool, shape: list[int], batches: list[int]) -> None:
    """Print the highest resident set at every batch size; runs in a process of its own."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = options.enable_mem_pattern = arena
    inputs = [np.ones((batch, *shape), np.float32) for batch in batches]
    before = status("VmRSS")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    peaks = []
    for images in inputs:
        Path("/proc/self/clear_refs").write_text("5")
        session.run(None, {"x": images})
        peaks.append(status("VmHWM") - before)
    print(json.dumps(peaks))


def onnx_peaks(network: nn.Module, shape: tuple[int, ...], batches: list[int]) -> list[list[int]]:
    """Return bytes by (arena off, on) and batch."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/network.onnx"
        names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "n"}}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(network, (torch.zeros(1, *shape),), path, dynamo=False, **names)  # type: ignore[arg-type]
        found = []
        for arena in (False, True):
            job = json.dumps([path, arena, list(shape), batches])
            command = [sys.executable, __file__, "--child", job]
            result = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(json.loads(result.stdout))
    return found


def random_widths(table: LayerTable, rng: np.random.Generator) -> np.ndarray:
    """Return widths around a random overall keep ratio."""
    ratios = np.clip(rng.uniform(0.15, 1) + rng.normal(0, 0.15, len(table.full)), 0.125, 1)
    return np.maximum(np.round(ratios * table.full), 1).astype(int)


def compare(name: str, count: int, batches: list[int]) -> None:
    """Print one line per runtime and batch size."""
    network, shape = NETWORKS[name]().eval(), (3, 32, 32)
    table, rng = trace(network, shape), np.random.default_rng(0)
    cost, rows = Memory(table), []
    for _ in range(count):
        widths = random_widths(table, rng)
        small = fold_batch_norm(cut(network, table, first_channels(table, widths)), table)
        configuration = table.configuration(widths[None])
        weights, activations = cost.weights(configuration)[0], cost.activations(configuration)[0]
        expected = [weights + batch * activations for batch in batches]
        held = [torch_peak(in_place(small), torch.zeros(batch, *shape)) for batch in batches]
        rows.append([expected, held, *onnx_peaks(small, shape, batches)])
    measured = np.array(rows, dtype=np.float64)  # strategies, sources, batches
    for column, batch in enumerate(batches):
        expected = measured[:, 0, column]
        for source, label in enumerate(("PyTorch", "ORT, no arena", "ORT, arena"), start=1):
            real = measured[:, source, column]
            error = expected / real - 1
            print(
                f"{name:<10}{batch:>6}  {label:<14}{np.median(expected) / 1e6:>9.2f}"
                f"{np.median(real) / 1e6:>9.2f}{100 * np.median(error):>+9.1f}"
                f"{100 * np.median(np.abs(error)):>9.1f}{spearmanr(expected, real)[0]:>9.3f}",
                flush=True,
            )


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategies", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_onnx(*options.child)
        return
    torch.set_num_threads(1)
    print("MB: medians; error in %: median, median of the absolute; rank correlation")
    print(f"{'network':<10}{'batch':>6}  {'':<14}{'cost':>9}{'real':>9}{'error':>9}{'|error|':>9}")
    for name in options.networks:
        compare(name, options.strategies, options.batches)


if __name__ == "__main__":
    main()
