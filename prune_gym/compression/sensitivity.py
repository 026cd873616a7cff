"""What kinds of decisions are told of a trained network: its sensitivities, as NumPy arrays."""

from functools import cached_property

import numpy as np

from prune_gym.compression.calibration import Calibration
from prune_gym.compression.original import Original
from prune_gym.graph.residual_blocks import branch_shares

WEIGHTS = 65_536  # of a layer that its sensitivity is estimated from
IMAGES = 128  # enough for the energy of a branch


class Sensitivities:
    """The sensitivities of one network (`prune_gym.search_space.kinds.NetworkStatistics`).

    Attributes:
        table: the network's layer table.
        name: the name of the network's class.
    """

    def __init__(self, original: Original, calibration: Calibration) -> None:
        """Take a network and its calibration."""
        self.table, self.name = original.table, type(original.network).__name__
        self._original, self._calibration = original, calibration

    def channel_errors(self, group: int) -> np.ndarray:
        """Return the output energy lost at every width of a group, ``(channels + 1,)``."""
        return self._calibration.errors[group]

    def weights(self, layer: int) -> np.ndarray:
        """Return a sample of a layer's weights by output channel, ``float32 (outputs, m)``."""
        name = self.table.layers[layer].name
        flat = self._original.network.get_submodule(name).get_parameter("weight").flatten(1)
        step = max(flat.numel() // WEIGHTS, 1)
        some = flat[:, ::step] if flat.shape[1] > step else flat[::step]
        return some.detach().cpu().numpy()

    def branch_shares(self) -> np.ndarray:
        """Return the output energy that each block's branch adds, ``(blocks,)``."""
        return self._branch_shares

    @cached_property
    def _branch_shares(self) -> np.ndarray:
        network, images = self._original.network, self._original.images[:IMAGES]
        return np.asarray(branch_shares(network, self.table.blocks, images))
