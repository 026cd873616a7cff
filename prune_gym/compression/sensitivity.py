"""What kinds of decisions are told of a trained network: its sensitivities, as NumPy arrays."""

import numpy as np
import torch
from torch import nn

from prune_gym.compression.calibration import Calibration
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.residual_blocks import branch_shares

WEIGHTS = 65_536  # of a layer that its sensitivity is estimated from
IMAGES = 128  # enough for the energy of a branch


class Sensitivities:
    """The sensitivities of one network (:class:`prune_gym.search_space.kinds.NetworkStatistics`).

    Attributes:
        table: the network's layer table.
        name: the name of the network's class.
    """

    def __init__(
        self, network: nn.Module, table: LayerTable, calibration: Calibration, images: torch.Tensor
    ) -> None:
        """Take a network, its calibration and normalized calibration images (N, C, H, W)."""
        self.table, self.name = table, type(network).__name__
        self._network, self._calibration, self._images = network, calibration, images

    def channel_errors(self, group: int) -> np.ndarray:
        """Return the output energy lost at every width of a group, ``(channels + 1,)``."""
        return self._calibration.errors[group]

    def weights(self, layer: int) -> np.ndarray:
        """Return a sample of a layer's weights by output channel, ``float32 (outputs, m)``."""
        name = self.table.layers[layer].name
        flat = self._network.get_submodule(name).get_parameter("weight").detach().flatten(1)
        step = max(flat.numel() // WEIGHTS, 1)
        return flat[:, ::step].numpy() if flat.shape[1] > step else flat[::step].numpy()

    def branch_shares(self) -> np.ndarray:
        """Return the output energy that each block's branch adds, ``(blocks,)``."""
        shares = branch_shares(self._network, self.table.blocks, self._images[:IMAGES])
        return np.asarray(shares)
