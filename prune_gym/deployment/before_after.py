"""Measure an original and its compressed network side by side, on the deployed files."""

import json
import math
import reprlib
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, fields, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from prune_gym._utils.paths import write_atomically
from prune_gym.compression.network_file import (
    SUFFIX,
    function_in,
    kept_shares,
    load_network,
    read_network_spec,
    rebuilt_table,
    spec_of,
)
from prune_gym.compression.network_spec import NetworkSpec
from prune_gym.compression.quantize import QuantizedLayer
from prune_gym.compression.unstructured import densities
from prune_gym.costs import build_costs
from prune_gym.datasets import DetectionData, ScoredData
from prune_gym.datasets.normalize import normalize
from prune_gym.deployment.deployable import Deployable, deployable, folded, load_deployable
from prune_gym.deployment.export import INPUT, check_images, onnx_runner, to_current_onnx
from prune_gym.deployment.int8 import quantize_onnx
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.envs.replay import described, environment_of
from prune_gym.errors import MissingFileError, UserError
from prune_gym.evaluation.evaluator import BATCH, Evaluator
from prune_gym.evaluation.task import load_evaluator
from prune_gym.graph.configuration import Configuration
from prune_gym.graph.input_shapes import InputShapes
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.skipped import running_modules
from prune_gym.graph.trace import trace
from prune_gym.profiling import settings_sweep
from prune_gym.profiling.onnx_session import import_onnxruntime, open_session, share_threads
from prune_gym.profiling.paired_timing import Compared, interleaved
from prune_gym.profiling.peak_memory import STATUS, peak_memory
from prune_gym.profiling.profile_network import processor
from prune_gym.profiling.session import Setting
from prune_gym.profiling.settings_sweep import SettingMeasured
from prune_gym.profiling.torch_session import TorchSession
from prune_gym.search_space.space import SearchSpace
from prune_gym.search_space.strategy import load_strategy

COUNTS = ("flops", "params")
SETTLING = 0.3  # seconds in which the threads of the runtime before stop spinning


@dataclass(frozen=True)
class Measured:
    """What was measured of an original and its compressed network.

    Attributes:
        values: metric -> (before, after): accuracy (test split), flops, params, file_bytes,
            peak_memory_bytes.
        latency: runtime -> ms of a call.
        about: how it was measured.
        settings: latency, and energy where the machine tells it, by batch size and threads; empty
            where that was not asked for.
    """

    values: dict[str, tuple[float, float]]
    latency: dict[str, Compared]
    about: dict[str, Any]
    settings: list[SettingMeasured] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        values = {name: dict(before=b, after=a) for name, (b, a) in self.values.items()}
        latency = {name: each.as_dict() for name, each in self.latency.items()}
        found = {**self.about, "metrics": values, "latency_ms": latency}
        if self.settings:
            found["settings"] = [each.as_dict() for each in self.settings]
        return found

    def save(self, path: Path) -> None:
        """Write the plain data as JSON."""
        write_atomically(path, (json.dumps(self.as_dict(), indent=1) + "\n").encode())


@dataclass(frozen=True)
class _Pair:
    """An original and its compressed network, before anything is measured.

    Attributes:
        task: the environment's id, or network and data.
        label: which network it is.
        evaluator: of the original network.
        network: the compressed one.
        costs: cost -> (before, after).
    """

    task: str
    label: str
    evaluator: Evaluator
    network: nn.Module
    costs: dict[str, tuple[float, float]]


def measure(
    source: Path,
    weights_file: Path | None = None,
    onnx_file: Path | None = None,
    threads: int = 2,
    batch: int = 1,
    *,
    sweep: bool = False,
    network: str | None = None,
    data: str | None = None,
) -> Measured:
    """Measure the original network and a compressed one side by side.

    Args:
        source: a strategy, or a compressed network's file.
        weights_file: fine-tuned weights of the strategy; None: repaired only.
        onnx_file: what is deployed; None: exported now, in int8 where the network has bits.
        threads: of the processor.
        batch: images in a call.
        sweep: measure 1, 8 and 32 images in a call with 1 and 2 threads, too.
        network: as of `load_deployable`.
        data: likewise.

    Raises:
        MissingFileError: no such file.
        MissingExtraError: ``prune-gym[onnx]`` is not installed.
        UserError: not such a file, or weights or model belong to another strategy.
    """
    if source.suffix == SUFFIX:
        if weights_file is not None:
            raise UserError(f"{source} holds weights already: give --weights with a strategy")
        pair = _pair_of_network(source, network, data)
    else:
        pair = _pair_of_strategy(source, weights_file, network, data)
    evaluator = pair.evaluator
    before = deployable(evaluator.network, evaluator.data)
    if isinstance(before.input_shape, InputShapes):
        raise UserError(
            f"measure is for networks that read one input, and {pair.task} gives several "
            f"({before.input_shape}); print(result) of compress() shows both latencies"
        )
    after = deployable(pair.network, evaluator.data)
    model = _model(after) if onnx_file is None else _read(onnx_file, after)
    models = _model(before), model
    accuracies = onnx_accuracy(models[0], evaluator), onnx_accuracy(models[1], evaluator)
    values = {"accuracy": accuracies, **pair.costs}
    values["file_bytes"] = float(len(models[0])), float(len(models[1]))
    if STATUS.is_file():
        values["peak_memory_bytes"] = _memory(models[0], batch), _memory(models[1], batch)
    setting = Setting(batch, before.input_shape, threads)
    about = {
        "source": str(source),
        "task": pair.task,
        "score": evaluator.data.metric_name,
        "network": str(onnx_file or pair.label) if weights_file is None else pair.label,
        "onnx": str(onnx_file or ("exported, int8" if after.quantized else "exported, float32")),
        "threads": threads,
        "batch": batch,
        "processor": processor(),
        "onnxruntime": import_onnxruntime().__version__,
        "torch": torch.__version__,
    }
    latency = _latency(models, (before, after), setting)
    return Measured(values, latency, about, _settings(models) if sweep else [])


def _pair_of_strategy(
    file: Path, weights_file: Path | None, network: str | None, data: str | None
) -> _Pair:
    strategy = load_strategy(file)
    env = environment_of(strategy, network, data)
    configuration, compressed = env.problem.configure(strategy), env.problem.apply(strategy)
    label = "repaired, not fine-tuned"
    if weights_file is not None:
        expected = spec_of(compressed, **described(strategy, env))
        compressed, label = _load(weights_file, expected, network), str(weights_file)
        _check_zeros(compressed, env, configuration, weights_file)
    full = env.problem.original_configuration  # with what the original itself has pruned
    costs = {
        name: (
            float(env.problem.costs[name](full)[0]),
            float(env.problem.costs[name](configuration)[0]),
        )
        for name in COUNTS
    }
    return _Pair(strategy.env_id, label, env.problem.evaluator, compressed, costs)


def _pair_of_network(file: Path, network: str | None, data: str | None) -> _Pair:
    compressed, spec = load_deployable(file, network, data).network, read_network_spec(file)
    named = function_in(network or "") or spec.network, data or spec.data
    evaluator = load_evaluator(*named, "none")
    table = rebuilt_table(spec, evaluator.network)
    ends = []
    for each, density in (
        (evaluator.table, evaluator.density),
        (table, _density(spec, table, compressed, evaluator.network)),
    ):
        counted = build_costs(each, None)
        configuration = SearchSpace(each, (), density).configure(np.zeros((1, 0)))
        ends.append([float(counted[name](configuration)[0]) for name in COUNTS])
    costs = dict(zip(COUNTS, zip(*ends, strict=True), strict=True))
    return _Pair(" on ".join(named), str(file), evaluator, compressed, costs)


def _density(
    spec: NetworkSpec, table: LayerTable, network: nn.Module, original: nn.Module
) -> np.ndarray:
    """Return the share of weights that is kept in every layer of a pruned network.

    Where its file does not say, it is that of the weights that are not zero; zeros of quantized
    layers are left out, for few bits round weights to zero.
    """
    known, modules = kept_shares(spec, original), dict(network.named_modules())
    names = [table.layers[index].name for index in table.weighted]
    found = densities(network, replace(table, block_size=1))
    rounded = [isinstance(modules[name], QuantizedLayer) for name in names]
    seen = dict(zip(names, np.where(rounded, 1.0, found), strict=True))
    return np.array([known.get(name, seen[name]) for name in names])


def _load(file: Path, expected: NetworkSpec, network: str | None) -> nn.Module:
    """Load a network and check that it is built as the strategy says."""
    found = read_network_spec(file)
    for each in fields(NetworkSpec):
        if each.name == "density":
            continue  # `_check_zeros` looks at the weights themselves
        ours, theirs = getattr(expected, each.name), getattr(found, each.name)
        # Files of earlier versions say no pads.
        if theirs != ours and not (each.name == "pads" and theirs is None and not ours):
            raise UserError(
                f"{file} belongs to another strategy: {each.name} {reprlib.repr(theirs)}, expected "
                f"{reprlib.repr(ours)}"
            )
    function = function_in(network or "")
    return load_network(f"{function}@{file}" if function else file)


def _check_zeros(
    network: nn.Module, env: CompressionEnv, configuration: Configuration, file: Path
) -> None:
    """Check that as many weights are zero as the strategy says."""
    table = env.problem.evaluator.table
    names = [table.layers[index].name for index in table.weighted]
    modules = running_modules(network)
    for name, most in zip(names, table.nonzeros(configuration)[0], strict=True):
        if name not in modules:
            continue  # in a skipped block
        found = int(cast(torch.Tensor, modules[name].weight).count_nonzero())
        if found > most:
            raise UserError(
                f"{file} belongs to another strategy: {found:,} weights of {name} are not zero, "
                f"expected {most:,.0f} at most"
            )


def _model(each: Deployable) -> bytes:
    model = to_current_onnx(folded(each.network, each.input_shape), check_images(each.data))
    return quantize_onnx(model, each) if each.quantized else model


def _read(file: Path, expected: Deployable) -> bytes:
    """Read an ONNX file and check that its outputs and layers are those of the network."""
    if not file.is_file():
        raise MissingFileError(f"{file}: no such file; `prune-gym export` writes ONNX models")
    model = file.read_bytes()
    images = check_images(expected.data)
    try:
        answers = onnx_runner(model)(cast(torch.Tensor, images).numpy())
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
            f"{file} belongs to another strategy: the sizes of its layers' weights are "
            f"{sorted(theirs)}, expected {sorted(ours)}"
        )
    return model


def _weights(model: bytes) -> list[int]:
    """Return how many weights each layer of an ONNX model has."""
    graph = import_module("onnx").load_from_string(model).graph
    return [math.prod(each.dims) for each in graph.initializer if len(each.dims) > 1]


def onnx_accuracy(model: bytes, evaluator: Evaluator) -> float:
    """Return the accuracy, or a detector's mAP, on the test split in ONNX Runtime."""
    data, run = evaluator.data, onnx_runner(model)
    if isinstance(data, ScoredData):
        raise UserError(
            f"measure is for classifiers and detectors, and {data.name} has a score of its own: "
            "ONNX Runtime does not return outputs as the network's forward does"
        )
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


def _settings(models: tuple[bytes, bytes]) -> list[SettingMeasured]:
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        for file, model in zip(files, models, strict=True):
            file.write_bytes(model)
        return settings_sweep.sweep(*files)


def _latency(
    models: tuple[bytes, bytes], networks: tuple[Deployable, Deployable], setting: Setting
) -> dict[str, Compared]:
    """Time both in each runtime; a runtime's threads rest before the next one's turn."""
    share_threads(setting.threads)
    feed = {INPUT: setting.images()}
    runs = [partial(open_session(model, setting.threads).run, None, feed) for model in models]
    latency = {"ONNX Runtime": interleaved(*runs)}
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
