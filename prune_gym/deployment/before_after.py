"""Before and after: what compressing a network gained, measured on the deployed files."""

import json
import math
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from prune_gym._utils.formatting import format_change, format_metric
from prune_gym._utils.paths import write_atomically
from prune_gym.compression.network_file import load_network, make_recipe, read_recipe
from prune_gym.datasets import DetectionData
from prune_gym.datasets.normalize import normalize
from prune_gym.deployment.apply import described, environment_of
from prune_gym.deployment.deployable import Deployable, deployable, folded
from prune_gym.deployment.export import INPUT, check_images, onnx_runner, to_current_onnx
from prune_gym.deployment.int8 import quantize_onnx
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.errors import MissingFileError, UserError
from prune_gym.evaluation.evaluator import BATCH, Evaluator
from prune_gym.graph.configuration import Configuration
from prune_gym.graph.trace import trace
from prune_gym.profiling.paired_timing import Compared, Spread, interleaved
from prune_gym.profiling.peak_memory import STATUS, peak_memory
from prune_gym.profiling.profile_network import processor
from prune_gym.profiling.runtimes import (
    Setting,
    TorchSession,
    import_onnxruntime,
    session_options,
    share_threads,
)
from prune_gym.search_space.strategy import load_strategy

SETTLING = 0.3  # seconds in which the threads of the runtime before stop spinning


@dataclass(frozen=True)
class Measured:
    """Before and after.

    Attributes:
        values: metric -> (before, after): accuracy (test split), flops, params, file_bytes,
            peak_memory_bytes.
        latency: runtime -> ms of a call.
        about: how it was measured.
    """

    values: dict[str, tuple[float, float]]
    latency: dict[str, Compared]
    about: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        values = {name: dict(before=b, after=a) for name, (b, a) in self.values.items()}
        latency = {name: each.as_dict() for name, each in self.latency.items()}
        return {**self.about, "metrics": values, "latency_ms": latency}


def measure(
    strategy_file: Path, network_file: Path | None, onnx_file: Path | None, threads: int, batch: int
) -> Measured:
    """Measure the original network and a strategy's side by side.

    Args:
        strategy_file: the strategy.
        network_file: its fine-tuned weights; None: repaired only.
        onnx_file: what is deployed; None: exported now, in int8 where the strategy says bits.
        threads: of the processor.
        batch: images in a call.

    Raises:
        MissingFileError: no such file.
        MissingExtraError: ``prune-gym[onnx]`` is not installed.
        UserError: not a strategy, or network or model are not of this strategy.
    """
    strategy = load_strategy(strategy_file)
    env = environment_of(strategy)
    evaluator, configuration = env.problem.evaluator, env.problem.configure(strategy)
    network = env.problem.apply(strategy)
    if network_file is not None:
        network = _load(network_file, make_recipe(network, **described(strategy, env)))
        _check_zeros(network, env, configuration, network_file)
    before = deployable(evaluator.network, evaluator.data)
    after = deployable(network, evaluator.data)
    model = _model(after) if onnx_file is None else _read(onnx_file, after)
    models = _model(before), model
    full = env.problem.original_configuration  # with what the original itself has pruned
    values = {
        "accuracy": (
            _accuracy(models[0], evaluator),
            _accuracy(models[1], evaluator),
        )
    }
    for name in ("flops", "params"):
        cost = env.problem.costs[name]
        values[name] = float(cost(full)[0]), float(cost(configuration)[0])
    values["file_bytes"] = float(len(models[0])), float(len(models[1]))
    if STATUS.is_file():
        values["peak_memory_bytes"] = _memory(models[0], batch), _memory(models[1], batch)
    setting = Setting(batch, before.input_shape, threads)
    about = {
        "strategy": str(strategy_file),
        "env_id": strategy.env_id,
        "score": evaluator.data.metric_name,
        "network": str(network_file or onnx_file or "repaired, not fine-tuned"),
        "onnx": str(onnx_file or ("exported, int8" if after.quantized else "exported, float32")),
        "threads": threads,
        "batch": batch,
        "processor": processor(),
        "onnxruntime": import_onnxruntime().__version__,
        "torch": torch.__version__,
    }
    return Measured(values, _latency(models, (before, after), setting), about)


def _load(file: Path, expected: dict[str, str]) -> nn.Module:
    """Load a network and check that it is built as the strategy says."""
    recipe = read_recipe(file)
    for key, value in expected.items():
        if (found := recipe.get(key, "{}")) != value:  # files of earlier versions hold no pads
            raise UserError(f"{file} is of another strategy: {key} {found}, expected {value}")
    return load_network(file)


def _check_zeros(
    network: nn.Module, env: CompressionEnv, configuration: Configuration, file: Path
) -> None:
    """Check that a network has pruned as many weights one by one as the strategy says."""
    table = env.problem.evaluator.table
    names = [table.layers[index].name for index in table.weighted]
    for name, most in zip(names, table.nonzeros(configuration)[0], strict=True):
        try:
            module = network.get_submodule(name)
        except AttributeError:
            continue  # of a skipped block
        found = int(cast(torch.Tensor, module.weight).count_nonzero())
        if found > most:
            raise UserError(
                f"{file} is of another strategy: {found:,} weights of {name} are not zero, "
                f"expected {most:,.0f} at most"
            )


def _model(each: Deployable) -> bytes:
    model = to_current_onnx(folded(each.network, each.input_shape), check_images(each.data))
    return quantize_onnx(model, each.data, INPUT) if each.quantized else model


def _read(file: Path, expected: Deployable) -> bytes:
    """Read an ONNX file and check that it answers as a network of these data does."""
    if not file.is_file():
        raise MissingFileError(f"{file}: no such file; `prune-gym export` writes ONNX models")
    model = file.read_bytes()
    images = check_images(expected.data)
    try:
        answers = onnx_runner(model)(images.numpy())
    except Exception as error:  # ONNX Runtime has kinds of its own, without a common one
        raise UserError(f"{file} is no ONNX model of this network ({error})") from error
    with torch.inference_mode():
        wanted = expected.network(images)
    shape = (wanted[0] if isinstance(wanted, tuple) else wanted).shape
    if answers[0].shape != tuple(shape):
        raise UserError(f"{file}: expected outputs {tuple(shape)}, got {answers[0].shape}")
    deployed = folded(expected.network, expected.input_shape)
    ours = [each.numel() for each in deployed.parameters() if each.ndim > 1]
    theirs = _weights(model)
    if Counter(ours) - Counter(theirs):  # a model may hold constants beside the weights
        raise UserError(
            f"{file} is of another strategy: the sizes of its layers' weights are "
            f"{sorted(theirs)}, expected {sorted(ours)}"
        )
    return model


def _weights(model: bytes) -> list[int]:
    """Return how many weights each layer of an ONNX model has."""
    graph = import_module("onnx").load_from_string(model).graph
    return [math.prod(each.dims) for each in graph.initializer if len(each.dims) > 1]


def _accuracy(model: bytes, evaluator: Evaluator) -> float:
    """Return the accuracy, or a detector's mAP, on the test split in ONNX Runtime."""
    data, run = evaluator.data, onnx_runner(model)
    starts = range(0, len(data.test), BATCH)
    slices = [slice(start, start + BATCH) for start in starts]
    answers = (run(normalize(data.test.images[s], data).contiguous().numpy()) for s in slices)
    if isinstance(data, DetectionData):
        maps = (tuple(map(torch.from_numpy, each)) for each in answers)
        return evaluator.mean_average_precision(maps, data.test)
    labels = (data.test.labels[s] for s in slices)
    hits = sum(int((a[0].argmax(1) == t).sum()) for a, t in zip(answers, labels, strict=True))
    return hits / len(data.test)


def _memory(model: bytes, batch: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        file.write_bytes(model)
        return float(np.median([peak_memory(file, batch) for _ in range(3)]))


def _latency(
    models: tuple[bytes, bytes], networks: tuple[Deployable, Deployable], setting: Setting
) -> dict[str, Compared]:
    """Time both in each runtime; a runtime's threads rest before the next one's turn."""
    share_threads("onnxruntime", setting.threads)
    runtime, feed = import_onnxruntime(), {INPUT: setting.images()}
    options = session_options(setting.threads)
    sessions = [
        runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for model in models
    ]
    latency = {
        "ONNX Runtime": interleaved(*(lambda s=s: s.run(None, feed) for s in sessions))  # type: ignore[misc]
    }
    if any(each.quantized for each in networks):
        return latency  # PyTorch only simulates bits here
    time.sleep(SETTLING)
    before = torch.get_num_threads()
    ready = [folded(each.network, each.input_shape) for each in networks]
    torches = [TorchSession(n, trace(n, setting.input_shape), setting) for n in ready]
    try:
        latency["PyTorch"] = interleaved(torches[0].run, torches[1].run)
    finally:
        torch.set_num_threads(before)
    return latency


def report(measured: Measured, out: Path | None, console: Console) -> None:
    """Print the table, and write ``out`` where it is given."""
    about = measured.about
    table = Table("", "before", "after", "change", title=f"{about['env_id']}: {about['network']}")
    labels = ROWS | {"accuracy": f"{about['score']}, test split"}
    for metric, (before, after) in measured.values.items():
        changed = format_change(before, after, metric)
        table.add_row(
            labels[metric], format_metric(before, metric), format_metric(after, metric), changed
        )
    for runtime, each in measured.latency.items():
        cells = (_cell(spread, " ms") for spread in (each.before, each.after))
        table.add_row(f"latency, {runtime}", *cells, _cell(each.factor, " x as fast"))
    console.print(table)
    console.print(
        f"Latency: median (quartiles) of calls of {about['batch']} image(s) on {about['threads']} "
        f"thread(s), the two networks in turn. Peak memory: what the resident memory of a process "
        "rises to when ONNX Runtime loads and runs the file. File: ONNX.",
        soft_wrap=True,
        highlight=False,
    )
    if out is not None:
        write_atomically(out, (json.dumps(measured.as_dict(), indent=1) + "\n").encode())
        console.print(f"Wrote {out}", highlight=False)


ROWS = {
    "flops": "multiply-adds",
    "params": "parameters",
    "file_bytes": "file",
    "peak_memory_bytes": "peak memory",
}


def _cell(spread: Spread, unit: str) -> str:
    return f"{spread.median:.3g}{unit} ({spread.low:.3g} to {spread.high:.3g})"
