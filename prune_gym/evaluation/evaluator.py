"""The accuracy of candidates, as fast as the processor allows."""

import copy
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map

from prune_gym._utils.array_cache import read_arrays, write_arrays
from prune_gym._utils.device import (
    CPU,
    device_of,
    fast_dtype,
    outside_contexts,
    to_channels_last,
    to_dtype,
)
from prune_gym.compression.calibration import Calibration
from prune_gym.compression.fingerprint import fingerprint
from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.malloc import release_memory
from prune_gym.compression.original import Original
from prune_gym.compression.quantize import quantize
from prune_gym.compression.repair import check_repair, cut_and_repair
from prune_gym.compression.sensitivity import Sensitivities
from prune_gym.compression.surgery import kept_positions
from prune_gym.compression.unstructured import densities, sparsify
from prune_gym.datasets import (
    AnyData,
    AnySplit,
    DetectionData,
    DetectionSplit,
    ScoredData,
    ScoredSplit,
    Split,
)
from prune_gym.datasets.normalize import normalize
from prune_gym.detection.boxes import detect
from prune_gym.detection.metric import average_precision, mean_average_precision
from prune_gym.evaluation.accuracy_cache import AccuracyCache
from prune_gym.graph.configuration import Configuration
from prune_gym.graph.inputs import Arrays, Tensors, feed, shape_of, zeros
from prune_gym.graph.layer_table import LayerTable
from prune_gym.models.darknet.network import Darknet, Head
from prune_gym.models.weights_file import weights_checksum
from prune_gym.search_space.kinds import KINDS

# A forked child inherits a thread pool without its threads: the first parallel loop in it would
# wait forever. With one thread there is no parallel loop.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

BATCH = 500
RELEASE_EVERY = 16  # accuracies: it takes as long as a small candidate
KEPT_BYTES = 128 * 2**20  # of images; ready for the network they take twice as much


@torch.inference_mode()
def accuracy(network: nn.Module, data: AnyData, split: AnySplit) -> float:
    """Return the top-1 accuracy of any network on a split, in [0, 1], computed in float32.

    Of a detector it is the mAP@0.5, of data with a score the score.
    """
    if isinstance(data, DetectionData):
        assert isinstance(split, DetectionSplit)
        return mean_average_precision(cast(Darknet, network), data, split)
    device = device_of(network)
    if isinstance(data, ScoredData):
        assert isinstance(split, ScoredSplit)
        starts = range(0, len(split), BATCH)
        batches = (normalize(split.images[s : s + BATCH], data, device) for s in starts)
        return data.score_of((feed(network, images) for images in batches), split)
    assert isinstance(split, Split)
    correct = 0
    for start in range(0, len(split), BATCH):
        images = normalize(split.images[start : start + BATCH], data, device)
        labels = torch.tensor(split.labels[start : start + BATCH], device=device)
        correct += int((feed(network, images).argmax(1) == labels).sum())
    return correct / len(split)


class Evaluator:
    """Cuts, repairs and scores candidates of one network; equal strategies are scored once.

    Attributes:
        network: the original network; its weights are never changed.
        table: its layer table.
        data: what it is scored on.
        calibration: its second moments and channel orders.
        pixels: calibration images as the data have them, uint8 (N, C, H, W), or several inputs.
        cache: the accuracies that are known already.
        seconds: processor time that candidates have taken, whose accuracies were not known.
        statistics: what kinds of decisions are told of the network.
    """

    def __init__(
        self,
        network: nn.Module,
        table: LayerTable,
        data: AnyData,
        calibration: Calibration,
        pixels: Arrays,
        repair: str = "least_squares",
        rebuild: tuple[Callable, tuple] | None = None,
        importance: Mapping[str, tuple[torch.Tensor, torch.Tensor]] | None = None,
        cache: AccuracyCache | None = None,
        device: torch.device = CPU,
    ) -> None:
        """Hold what all candidates share.

        ``importance`` are factors by which weights count when some are pruned one by one (see
        `prune_gym.compression.unstructured.sparsify`). ``rebuild`` is a function and its
        arguments that make an equal evaluator, so that pickles carry a name and not the weights;
        without it the evaluator is pickled whole. Candidates are made and scored on ``device``.

        Raises:
            UserError: no such repair.
        """
        check_repair(repair)
        self.network, self.table, self.data = network, table, data
        self.calibration, self.pixels = calibration, pixels
        self.repair = repair
        self.cache = AccuracyCache() if cache is None else cache
        self.seconds = 0.0
        self.device = device
        self.statistics = Sensitivities(network, table, calibration, pixels, data, device)
        self.importance = dict(importance or {})
        self._rebuild = rebuild
        self._search: list[Tensors] = []

    def __reduce__(self) -> tuple:
        """Pickle by name where the evaluator was made by name."""
        if self._rebuild is not None:
            return self._rebuild
        args = (self.network, self.table, self.data, self.calibration, self.pixels, self.repair)
        return (Evaluator, (*args, None, self.importance, None, self.device))

    @cached_property
    def images(self) -> Tensors:
        """The calibration images, normalized: float32 (N, C, H, W), or several inputs."""
        return normalize(self.pixels, self.data)

    @cached_property
    def original(self) -> Original:
        """The original network on the device, with what candidates are repaired from."""
        parts = self.network, self.table, self.calibration, self.images, self.device
        return Original(*parts)

    @cached_property
    @torch.inference_mode()
    def _dtype(self) -> torch.dtype:
        """The type of numbers that candidates are scored in.

        It is float32 where the forward makes float32 tensors of its own.
        """
        fast = fast_dtype(self.device)
        whole = to_dtype(copy.deepcopy(self.original.network), fast)
        try:
            feed(whole, zeros(whole, shape_of(self.pixels)))
        except Exception:  # whatever its forward raises on another type of numbers
            return torch.float32
        return fast

    @cached_property
    def checksum(self) -> str:
        """Return a checksum of what candidates are made from: from another one come others."""
        return weights_checksum(self.network)

    def kept(self, widths: np.ndarray) -> list[np.ndarray]:
        """Return which channels of every group stay, ascending: the first of its order."""
        orders = self.calibration.orders
        return [np.sort(order[:width]) for order, width in zip(orders, widths, strict=True)]

    def candidate(self, configuration: Configuration) -> nn.Module:
        """Return the smaller, repaired network of one strategy, in float32 and eval mode.

        Where the strategy decides bits, batch-norm is folded and the layers are quantized.
        """
        kept = self.kept(configuration.widths[0])
        dense = configuration[0].is_dense and not configuration.extra
        candidate = cut_and_repair(
            self.original,
            kept,
            self.repair,
            skipped=self.table.skipped(configuration.blocks[0]),
            sparsify=None if dense else partial(self._sparsify, configuration, kept),
        )
        return self.quantize(candidate, configuration)

    def _sparsify(
        self, configuration: Configuration, kept: list[np.ndarray], candidate: nn.Module
    ) -> None:
        """Set weights of a candidate to zero, in place."""
        for name, values in configuration.extra.items():
            KINDS[name].apply(candidate, self.table, values[0])
        positions = kept_positions(self.network, self.table, kept)
        everything = slice(None)
        importance = {
            name: (
                outputs[positions.get((name, "out"), everything)],
                inputs[positions.get((name, "in"), everything)],
            )
            for name, (outputs, inputs) in self.importance.items()
        }
        sparsify(candidate, self.table, configuration.density[0], importance)

    def quantize(self, candidate: nn.Module, configuration: Configuration) -> nn.Module:
        """Quantize a candidate in place to the bits of its strategy, where that decides any."""
        one = configuration[0]
        if one.has_float_weights and one.has_float_activations:
            return candidate
        folded, nonzeros = fold_batch_norm(candidate, self.table), self.table.nonzeros(one)[0]
        bits = one.weight_bits[0], one.activation_bits[0]
        return quantize(folded, self.table, *bits, self.original.images, nonzeros)

    @cached_property
    def density(self) -> np.ndarray | None:
        """Share of masks that hold a weight per layer, ``(layers,)``; None where all do."""
        shares = densities(self.network, self.table)
        return shares if (shares < 1).any() else None

    def accuracy(self, configuration: Configuration) -> float:
        """Return the accuracy of one strategy's candidate on the search split, in [0, 1]."""
        key = configuration.key()
        known = self.cache.get(key)
        if known is None:
            started = time.process_time()
            if self._is_original(configuration):
                known = self.original_score(self.data.search)
            else:
                known = self.score(self.candidate(configuration), self.data.search)
            self.cache.put(key, known)
            if len(self.cache) % RELEASE_EVERY == 0:
                release_memory()
            self.seconds += time.process_time() - started
        return known

    def _is_original(self, configuration: Configuration) -> bool:
        """Return whether a strategy leaves the network as it is."""
        density = 1.0 if self.density is None else self.density
        return (
            bool((configuration.widths[0] == self.table.full).all())
            and bool((configuration.density[0] == density).all())
            and configuration.has_float_weights
            and configuration.has_float_activations
            and configuration.keeps_all_blocks
            and not configuration.extra
        )

    def original_score(self, split: AnySplit) -> float:
        """Return the original network's accuracy on a split, in [0, 1].

        It is measured once and kept in the user's cache folder. A score is measured each time: its
        function may have changed.
        """
        if isinstance(split, ScoredSplit):
            return self.score(self.network, split)
        purpose = f"score-1 {self.data.mean} {self.data.std} {getattr(self.network, 'heads', '')}"
        file = f"score-{fingerprint(purpose, self.network, vars(split).values(), self.device)}.npz"
        found = read_arrays(file, ["score"])
        if found is None:
            found = {"score": np.array(self.score(self.network, split))}
            write_arrays(file, found)
        return float(found["score"])

    def fast(self, network: nn.Module) -> nn.Module:
        """Return a copy for inference: batch-norm folded, channels-last, bfloat16 if that pays."""
        folded = fold_batch_norm(copy.deepcopy(network).eval(), self.table)
        return to_channels_last(to_dtype(folded.to(self.device), self._dtype))

    @outside_contexts
    @torch.inference_mode()
    def score(self, network: nn.Module, split: AnySplit) -> float:
        """Return a candidate's accuracy on a split, computed by its fast copy, in [0, 1].

        Top-1 accuracy, mean average precision (mAP@0.5) of a detector, or the score of data that
        have one.
        """
        fast = self.fast(network)
        outputs = (feed(fast, images) for images in self._batches(split))
        if isinstance(split, DetectionSplit):
            return self.mean_average_precision(outputs, split)
        if isinstance(split, ScoredSplit):
            assert isinstance(self.data, ScoredData)
            return self.data.score_of(outputs, split)
        starts = range(0, len(split), BATCH)
        labels = (
            torch.tensor(split.labels[start : start + BATCH], device=self.device)
            for start in starts
        )
        hits = (int((o.argmax(1) == t).sum()) for o, t in zip(outputs, labels, strict=True))
        return sum(hits) / len(split)

    def mean_average_precision(
        self, outputs: Iterable[tuple[torch.Tensor, ...]], split: DetectionSplit
    ) -> float:
        """Return a detector's mAP@0.5, in [0, 1], from its maps for the split's batches."""
        heads = cast(Sequence[Head], self.network.heads)  # a candidate may not carry them
        size = (split.images.shape[2], split.images.shape[3])
        return average_precision([detect(maps, heads, size) for maps in outputs], split)

    def _batches(self, split: AnySplit) -> Iterable[Tensors]:
        """Return the split's images, ready for the fast copy; a small search split's are kept."""
        if split is self.data.search and self._search:
            return self._search
        batches = (self._batch(split, start) for start in range(0, len(split), BATCH))
        if split is self.data.search and split.images.nbytes <= KEPT_BYTES:
            self._search = list(batches)
            return self._search
        return batches

    def _batch(self, split: AnySplit, start: int) -> Tensors:
        images = normalize(split.images[start : start + BATCH], self.data, self.device)
        return tree_map(self._as_fast, images)

    def _as_fast(self, images: torch.Tensor) -> torch.Tensor:
        return images.to(self._dtype) if images.is_floating_point() else images
