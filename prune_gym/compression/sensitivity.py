"""What kinds of decisions are told of a trained network: its sensitivities, as NumPy arrays."""

from contextlib import nullcontext
from functools import cached_property

import numpy as np
import torch
from torch import nn

from prune_gym._utils.device import fast_forward, on_device
from prune_gym.compression.calibration import Calibration
from prune_gym.costs.flops import Flops
from prune_gym.datasets import AnyData
from prune_gym.datasets.normalize import normalize
from prune_gym.graph.inputs import Arrays
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.residual_blocks import branch_shares

WEIGHTS = 65_536  # of a layer that its sensitivity is estimated from
IMAGES, LEAST_IMAGES = 128, 16  # enough for the energy of a branch
MULTIPLY_ADDS = 48e9  # on these images; a network that costs more sees fewer of them, in bfloat16


class Sensitivities:
    """The sensitivities of one network (`prune_gym.search_space.kinds.NetworkStatistics`).

    Attributes:
        table: the network's layer table.
        name: the name of the network's class.
    """

    def __init__(
        self,
        network: nn.Module,
        table: LayerTable,
        calibration: Calibration,
        pixels: Arrays,
        data: AnyData,
        device: torch.device,
    ) -> None:
        """Take what an evaluator is made of."""
        self.table, self.name = table, type(network).__name__
        self._network, self._calibration, self._device = network, calibration, device
        self._pixels, self._data = pixels, data

    def channel_errors(self, group: int) -> np.ndarray:
        """Return the output energy lost at every width of a group, ``(channels + 1,)``."""
        return self._calibration.errors[group]

    def weights(self, layer: int) -> np.ndarray:
        """Return a sample of a layer's weights by output channel, ``float32 (outputs, m)``."""
        name = self.table.layers[layer].name
        flat = self._network.get_submodule(name).get_parameter("weight").flatten(1)
        step = max(flat.numel() // WEIGHTS, 1)
        some = flat[:, ::step] if flat.shape[1] > step else flat[::step]
        return some.detach().cpu().numpy()

    def branch_shares(self) -> np.ndarray:
        """Return the output energy that each block's branch adds, ``(blocks,)``."""
        return self._branch_shares

    @cached_property
    def _branch_shares(self) -> np.ndarray:
        each = Flops(self.table)(self.table.configuration())[0]
        count = int(min(max(MULTIPLY_ADDS / each, LEAST_IMAGES), IMAGES))
        network = on_device(self._network, self._device)
        images = normalize(self._pixels[:count], self._data, self._device)
        with fast_forward(self._device) if count < IMAGES else nullcontext():
            return np.asarray(branch_shares(network, self.table.blocks, images))
