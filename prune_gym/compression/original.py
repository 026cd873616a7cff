"""The original network as candidates are made from it and compared with it."""

from functools import cached_property

import torch
from torch import nn

from prune_gym._utils.device import CPU, on_device
from prune_gym.compression.calibration import Calibration, batch_statistics
from prune_gym.compression.least_squares import Reference
from prune_gym.graph.inputs import Tensors
from prune_gym.graph.layer_table import LayerTable


class Original:
    """A network, its calibration and its calibration images on one device.

    What only some repairs need is measured when a candidate first needs it.

    Attributes:
        network: the network; its weights are never changed.
        table: its layer table.
        moments: consumer -> second moments of its inputs, as in `Calibration`.
        images: normalized calibration images (N, C, H, W), or several inputs.
    """

    def __init__(
        self,
        network: nn.Module,
        table: LayerTable,
        calibration: Calibration,
        images: Tensors,
        device: torch.device = CPU,
    ) -> None:
        """Take a network and images; copies of them go to a device where they are not."""
        self.network, self.table = on_device(network, device), table
        self.images = images.to(device)
        self.moments = {
            name: torch.from_numpy(moment).to(device)
            for name, moment in calibration.moments.items()
        }

    @cached_property
    def reference(self) -> Reference:
        """The outputs of its layers, which least squares fits candidates to."""
        return Reference(self.network, self.images)

    @cached_property
    def statistics(self) -> dict[str, torch.Tensor]:
        """The statistics of its batch-norms, as of `batch_statistics`."""
        return batch_statistics(self.network, self.table, self.images)
