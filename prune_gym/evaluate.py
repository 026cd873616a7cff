"""The accuracy of candidates, as fast as the processor allows."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from prune_gym.datasets import Data, Split
from prune_gym.network.calibration import Calibration
from prune_gym.network.fold import fold_batch_norm
from prune_gym.network.images import normalised
from prune_gym.network.precision import bfloat16_is_fast
from prune_gym.network.repair import check_repair, cut_and_repair
from prune_gym.network.table import LayerTable

BATCH = 500


@torch.inference_mode()
def accuracy(network: nn.Module, data: Data, split: Split) -> float:
    """Return the top-1 accuracy of any network on a split, in [0, 1], computed in float32."""
    device = next(network.parameters()).device
    correct = 0
    for start in range(0, len(split), BATCH):
        images = normalised(split.images[start : start + BATCH], data).to(device)
        labels = torch.tensor(split.labels[start : start + BATCH], device=device)
        correct += int((network(images).argmax(1) == labels).sum())
    return correct / len(split)


class Evaluator:
    """Cuts, repairs and scores candidates of one network; equal strategies are scored once.

    Attributes:
        network: the original network; its weights are never changed.
        table: its layer table.
        data: what it is scored on.
        calibration: its second moments and channel orders.
        images: normalised calibration images (N, C, H, W).
        memo: accuracy by realised widths.
    """

    def __init__(
        self,
        network: nn.Module,
        table: LayerTable,
        data: Data,
        calibration: Calibration,
        calibration_images: torch.Tensor,
        repair: str = "merge+batch_norm",
        rebuild: tuple[Callable, tuple] | None = None,
    ) -> None:
        """Hold what all candidates share.

        ``rebuild`` is a function and its arguments that make an equal evaluator, so that pickles
        carry a name and not the weights; without it the evaluator is pickled whole.

        Raises:
            ValueError: no such repair.
        """
        check_repair(repair)
        self.network, self.table, self.data = network, table, data
        self.calibration, self.images = calibration, calibration_images
        self.repair = repair
        self.memo: dict[tuple[int, ...], float] = {}
        self._rebuild = rebuild
        self._dtype = torch.bfloat16 if bfloat16_is_fast() else torch.float32
        self._search: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __reduce__(self) -> tuple:
        """Pickle by name where the evaluator was made by name."""
        if self._rebuild is not None:
            return self._rebuild
        args = (self.network, self.table, self.data, self.calibration, self.images, self.repair)
        return (Evaluator, args)

    def kept(self, widths: np.ndarray) -> list[np.ndarray]:
        """Return which channels of every group stay, ascending: the first of its order."""
        orders = self.calibration.orders
        return [np.sort(order[:width]) for order, width in zip(orders, widths, strict=True)]

    def candidate(self, widths: np.ndarray) -> nn.Module:
        """Return the smaller, repaired network of a strategy, in float32 and eval mode."""
        return cut_and_repair(
            self.network,
            self.table,
            self.kept(widths),
            self.repair,
            self.calibration,
            self.images,
        )

    def accuracy(self, widths: np.ndarray) -> float:
        """Return the candidate's top-1 accuracy on the search split, in [0, 1]."""
        key = tuple(int(width) for width in widths)
        if key not in self.memo:
            self.memo[key] = self.score(self.candidate(widths), self.data.search)
        return self.memo[key]

    def fast(self, network: nn.Module) -> nn.Module:
        """Return a copy for inference: batch-norm folded, channels-last, bfloat16 if that pays."""
        folded = fold_batch_norm(copy.deepcopy(network).eval(), self.table)
        return folded.to(dtype=self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def score(self, network: nn.Module, split: Split) -> float:
        """Return the top-1 accuracy of a candidate on a split, computed by its fast copy."""
        fast = self.fast(network)
        correct = 0
        for images, labels in self._batches(split):
            correct += int((fast(images).argmax(1) == labels).sum())
        return correct / len(split)

    def _batches(self, split: Split) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the split's batches, ready for the fast copy; the search split's are kept."""
        if split is self.data.search and self._search:
            return self._search
        images = normalised(split.images, self.data).to(self._dtype).split(BATCH)
        batches = list(zip(images, torch.tensor(split.labels).split(BATCH), strict=True))
        if split is self.data.search:
            self._search = batches
        return batches
