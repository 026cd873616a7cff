"""What ``compress`` returns: the smaller network, and how it compares with the original."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path

import torch
from torch import nn

from prune_gym._utils.device import on_device
from prune_gym._utils.formatting import format_change, format_metric
from prune_gym._utils.html import html_table
from prune_gym.compress_network.choose import standard_error
from prune_gym.compress_network.front import Front
from prune_gym.compression.network_file import save_network
from prune_gym.datasets import Data, ScoredData
from prune_gym.deployment.deployable import deployable, folded
from prune_gym.deployment.export import Exported, export
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.errors import MissingExtraError, UserError
from prune_gym.evaluation.evaluator import Evaluator, accuracy
from prune_gym.graph.inputs import shape_of
from prune_gym.graph.trace import trace
from prune_gym.models.weights_file import as_bytes
from prune_gym.profiling.onnx_session import import_onnxruntime
from prune_gym.profiling.paired_timing import Compared, interleaved
from prune_gym.profiling.runtimes import RUNTIMES
from prune_gym.profiling.session import Session, Setting
from prune_gym.search_space.strategy import Strategy
from prune_gym.training.finetune import finetune_candidate
from prune_gym.training.recipe import load_recipe

THREADS = 1  # with more, ONNX Runtime shares them in the process and refuses its other sessions
SPLIT_OF = {"accuracy": "search", "test_accuracy": "test"}
HEADER = ("", "before", "after", "change")
NEXT = (
    'next: result.finetune(epochs=10) trains the network, result.export("small.onnx") and '
    'result.save("small.safetensors") write it'
)


@dataclass(frozen=True, repr=False)
class Compressed:
    """The smaller network that `compress` found, and the front of the search.

    ``print(result)`` shows before and after, and the latency, which takes seconds to measure the
    first time. `save` and `export` write the network, `finetune` trains it.

    Attributes:
        network: the chosen strategy's network, float32, in eval mode.
        strategy: its decisions and what the search measured.
        before: metrics of the original; ``accuracy`` is that on the search split, ``test_accuracy``
            that on the test split, ``file_bytes`` the size of the weights as a safetensors file.
        after: the same of ``network``.
        front: records of all non-dominated strategies, the most accurate first. The chosen strategy
            need not be one of them: within the noise of the accuracies it may save less.
        env: the environment; ``env.problem.apply(front[3]["strategy"])`` gives another network.
        data: the images in three splits that share none. The environment's search split may hold
            training images too.
        images: how many images each accuracy is measured on: ``search`` and ``test``.
        notes: what to keep in mind when reading the numbers.
    """

    network: nn.Module
    strategy: Strategy
    before: dict[str, float]
    after: dict[str, float]
    front: Front
    env: CompressionEnv
    data: Data | ScoredData
    images: dict[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @torch.inference_mode(False)  # a caller may have switched off the gradients of a training
    def finetune(self, epochs: int = 10, seed: int = 0) -> "Compressed":
        """Return the result with its network trained on the training split, by the recipe "short".

        The trained network is kept where it is more accurate on the held-out search images, which
        both accuracies named ``accuracy`` are then measured on.

        Raises:
            UserError: ``epochs`` is not at least 1, or the data have a score and no loss.
        """
        if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
            raise UserError(f"epochs: expected an integer >= 1, got {epochs!r}")
        searched, data = self.env.problem.evaluator, self.data
        parts = searched.network, searched.table, data, searched.calibration, searched.pixels
        evaluator = Evaluator(*parts, searched.repair, device=searched.device)
        recipe = load_recipe("short", epochs=epochs, seed=seed)
        recipe = replace(recipe, batch_size=min(recipe.batch_size, len(data.train)))
        configuration = self.env.problem.configure(self.strategy)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder, "checkpoint")
            tuned = finetune_candidate(evaluator, configuration, recipe, checkpoint).best
        networks = (on_device(each, searched.device) for each in (tuned, self.network))
        best = max(networks, key=lambda each: accuracy(each, data, data.search))
        return measured(replace(self, network=best.cpu()), data)

    def save(self, path: str | Path) -> None:
        """Write the network as safetensors; ``load_network(path, build)`` reads it.

        ``build`` takes a number of classes and returns the original architecture.
        """
        save_network(
            self.network,
            Path(path),
            name=type(self.env.problem.evaluator.network).__name__,
            num_classes=self.data.num_classes,
            configuration=self.env.problem.configure(self.strategy),
            input_shape=shape_of(self.data.search.images),
        )

    def export(self, path: str | Path, form: str = "onnx", int8: bool = False) -> Exported:
        """Write the network as ONNX, or as a "torch" (export) program or "torchscript".

        Raises:
            MissingExtraError: ``prune-gym[onnx]`` is not installed.
            UserError: no such form; int8 in another one than ONNX; what was written does not
                compute what PyTorch does.
        """
        return export(deployable(self.network, self.data), form, int8, Path(path))

    @cached_property
    def latency(self) -> Compared:
        """Milliseconds of one image on one thread of this machine, before and after.

        Both networks are timed in turns for some seconds, when this is first asked for: in ONNX
        Runtime, or in PyTorch where ONNX Runtime is not installed.
        """
        shape = shape_of(self.data.search.images)
        try:
            import_onnxruntime()
            load = RUNTIMES["onnxruntime"].load
        except MissingExtraError:
            load = RUNTIMES["torch"].load

        def session(network: nn.Module) -> Session:
            ready = folded(network, shape)
            return load(ready, trace(ready, shape), Setting(1, shape, THREADS), ())

        before, after = session(self.env.problem.evaluator.network), session(self.network)
        return interleaved(before.run, after.run)

    def __repr__(self) -> str:
        """Return one line: accuracy and costs, before and after."""
        shown = [name for name in ("test_accuracy", "flops", "params") if name in self.before]
        changes = (
            f"{name} {self._cell(self.before, name)} -> {self._cell(self.after, name)}"
            for name in shown
        )
        return f"<Compressed: {', '.join(changes)}; {len(self.front)} strategies on the front>"

    def __str__(self) -> str:
        """Return `report`."""
        return self.report()

    def report(self) -> str:
        """Return a table of before and after with standard errors, and what can be done next.

        The latency in it takes seconds to measure the first time.
        """
        lines = [f"{name:<16}{old:>18}{new:>18}  {change}" for name, old, new, change in self._rows]
        return "\n".join([lines[0].rstrip(), *lines[1:], *self._remarks])

    def _repr_html_(self) -> str:
        """Return what `report` does, for notebooks."""
        header, *rows = self._rows
        title = f"{type(self.env.problem.evaluator.network).__name__}, before and after"
        remarks = "".join(f"<p>{escape(each)}</p>" for each in self._remarks)
        return html_table(title, header, rows) + remarks

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [HEADER]
        for metric in sorted(self.before, key=lambda name: name not in SPLIT_OF):
            before, after = self.before[metric], self.after[metric]
            change = format_change(before, after, metric)
            if metric in SPLIT_OF:
                split = SPLIT_OF[metric]
                change = f"{change} ({self.images[split]} {split} images)"
            cells = (self._cell(each, metric) for each in (self.before, self.after))
            rows.append((metric, *cells, change))
        timed = self.latency
        times = (f"{each.median:.3g} ms" for each in (timed.before, timed.after))
        factor = f"{timed.factor.median:.2f}x as fast"
        spread = f"({timed.factor.low:.2f} to {timed.factor.high:.2f})"
        return [*rows, ("latency here", *times, f"{factor} {spread}")]

    @property
    def _remarks(self) -> list[str]:
        quartiles = " and ".join(
            f"{each.low:.3g} to {each.high:.3g} ms"
            for each in (self.latency.before, self.latency.after)
        )
        return [
            f"latency here: one image on one thread, medians; quartiles {quartiles}",
            f"non-dominated strategies found: {len(self.front)} (result.front)",
            *(f"note: {each}" for each in self.notes),
            NEXT,
        ]

    def _cell(self, metrics: dict[str, float], metric: str) -> str:
        """Return a number, an accuracy with its standard error."""
        text = format_metric(metrics[metric], metric)
        if metric not in SPLIT_OF:
            return text
        error = standard_error(metrics[metric], self.images[SPLIT_OF[metric]])
        return f"{text.removesuffix(' %')} ± {100 * error:.2f} %"


def measured(result: Compressed, data: Data | ScoredData) -> Compressed:
    """Return the result with both networks' accuracies on two splits, and the sizes of files."""
    before, after = dict(result.before), dict(result.after)
    networks = result.env.problem.evaluator.network, result.network
    for metrics, network in zip((before, after), networks, strict=True):
        there = on_device(network, result.env.problem.evaluator.device)
        for metric, split in SPLIT_OF.items():
            metrics[metric] = accuracy(there, data, getattr(data, split))
        metrics["file_bytes"] = len(as_bytes(network))
    images = {split: len(getattr(data, split)) for split in SPLIT_OF.values()}
    return replace(result, before=before, after=after, images=images)
