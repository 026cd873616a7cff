"""Time sparse weights in MNN, which has kernels for blocks of four output channels, beside dense.

    pip install MNN 'prune-gym[onnx]'
    python benchmarks/sparse_runtimes.py --network vgg16 --network resnet56

For every density the same network is timed four times in turns, on one thread at batch 1: dense and
sparse in MNN, its file with sparse weights, and dense in ONNX Runtime. Factors are those of the
dense network in MNN, as the median of all passes.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.unstructured import sparsify
from prune_gym.graph.trace import trace
from prune_gym.models import build
from prune_gym.profiling.onnx_nodes import to_onnx
from prune_gym.profiling.onnx_session import open_session
from prune_gym.profiling.paired_timing import medians_in_turns

DENSITIES = (1.0, 0.5, 0.3, 0.2, 0.15, 0.1)
BLOCK = 4
SHAPE = (3, 32, 32)


def mnn_call(model: Path, sparse: bool) -> Callable[[], object]:
    """Convert an ONNX file and return a function that runs it once in MNN on one thread."""
    import _tools  # the converter of MNN, without its command line that reports usage
    import MNN

    target = model.with_suffix(".sparse.mnn" if sparse else ".mnn")
    _tools.mnnconvert(
        ["mnnconvert", "-f", "ONNX", "--modelFile", str(model), "--MNNModel", str(target)]
        + ["--bizCode", "benchmark"]
        + (["--detectSparseSpeedUp"] if sparse else [])
    )
    interpreter = MNN.Interpreter(str(target))
    session = interpreter.createSession({"numThread": 1, "precision": "high"})
    images = np.random.default_rng(0).random((1, *SHAPE), dtype=np.float32)
    holder = MNN.Tensor((1, *SHAPE), MNN.Halide_Type_Float, images, MNN.Tensor_DimensionType_Caffe)
    interpreter.getSessionInput(session).copyFrom(holder)
    return lambda: (interpreter, interpreter.runSession(session))


def onnxruntime_call(model: Path) -> Callable[[], object]:
    """Return a function that runs an ONNX file once in ONNX Runtime on one thread."""
    session = open_session(str(model), threads=1)
    feed = {session.get_inputs()[0].name: np.random.default_rng(0).random((1, *SHAPE), "float32")}
    return lambda: session.run(None, feed)


def sparse_network(name: str, density: float) -> nn.Module:
    """Return a network with random weights, a share of whose blocks of weights is kept."""
    network = build(name, num_classes=10).eval()
    table = replace(trace(network, SHAPE), block_size=BLOCK)
    fold_batch_norm(network, table)
    return sparsify(network, table, np.full(len(table.weighted), density))


def row(name: str, density: float) -> str:
    """Time one network at one density and return a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "network.onnx")
        model.write_bytes(to_onnx(sparse_network(name, density), SHAPE, 1))
        calls = [mnn_call(model, False), mnn_call(model, True), onnxruntime_call(model)]
        passes = medians_in_turns(calls)
        dense, sparse = (model.with_suffix(end).stat().st_size for end in (".mnn", ".sparse.mnn"))
    low, factor, high = np.percentile(passes[:, 0] / passes[:, 1], [25, 50, 75])
    mnn, _, ort = np.median(passes, axis=0)
    return (
        f"| {name} | {density:g} | {mnn:.3f} | {mnn / factor:.3f} | {factor:.2f} ({low:.2f} to "
        f"{high:.2f}) | {ort:.3f} | {dense / sparse:.2f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", action="append", default=None)
    options = parser.parse_args()
    names = options.network or ("vgg16", "resnet56", "mobilenet_v1")
    rows = [row(name, density) for name in names for density in DENSITIES]
    # MNN writes to the standard output too, so the table comes in one piece at the end.
    print(
        "| network | density | MNN dense, ms | MNN sparse, ms | times as fast (quartiles) | "
        "ONNX Runtime dense, ms | file, times as small |\n|---|---|---|---|---|---|---|",
        *rows,
        sep="\n",
    )


if __name__ == "__main__":
    main()
