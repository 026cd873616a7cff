"""Cut networks, and compare them with their originals."""

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from prune_gym.compression.surgery import cut, first_channels
from prune_gym.compression.verify import check_cut, largest_error
from prune_gym.graph.inputs import feed


def check_random_cuts(network, table, inputs, cuts=4, least=1):
    """Check in float64 that cuts which keep at least ``least`` of every group are exact."""
    check_cut(network, table, inputs)
    rng = np.random.default_rng(0)
    for _ in range(cuts):
        kept = [
            np.sort(rng.permutation(group.size)[: rng.integers(least, group.size + 1)])
            for group in table.groups
        ]
        error, dtype = largest_error(network, table, kept, inputs)
        assert error < 1e-12 and dtype is torch.float64


def half_of(network, table, inputs):
    """Return the configuration of half of all channels, its network, and what that multiplies.

    The multiply-adds are those that PyTorch counts while it runs on ``inputs``.
    """
    widths = (table.full + 1) // 2
    small = cut(network, table, first_channels(table, widths))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        feed(small, inputs)
    return table.configuration(widths[None]), small, counter.get_total_flops() / 2
