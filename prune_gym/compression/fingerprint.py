"""Compute a digest of a network; it names the files of the cache folder."""

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from prune_gym._utils.device import CPU, fast_dtype
from prune_gym._utils.state import state_tensors
from prune_gym.graph.inputs import Arrays, shape_of
from prune_gym.graph.symbolic import symbolic_trace


def fingerprint(
    purpose: str, network: nn.Module, arrays: Iterable[Arrays], device: torch.device = CPU
) -> str:
    """Return a digest of a network and of the arrays that it is given, first of all images.

    ``purpose`` names the quantity that is computed from them, with a version. Equal weights in a
    different architecture, or at a different precision, give a different digest.
    """
    digest = hashlib.sha256(f"{purpose} {device.type} {fast_dtype(device)} {network}".encode())
    images, *others = arrays
    digest.update(symbolic_trace(network, shape_of(images)).code.encode())
    for key, value in state_tensors(network).items():
        digest.update(key.encode())
        digest.update(value.numpy().tobytes())
    for array in tree_leaves([images, *others]):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:24]
