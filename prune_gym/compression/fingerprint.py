"""Compute a digest of a network; it names the files of the cache folder."""

import hashlib
from collections.abc import Iterable

import numpy as np
from torch import nn
from torch.fx import symbolic_trace

from prune_gym.compression.precision import bfloat16_is_fast


def fingerprint(purpose: str, network: nn.Module, arrays: Iterable[np.ndarray]) -> str:
    """Return a digest of a network and of arrays.

    ``purpose`` names the quantity that is computed from them, with a version. Equal weights in a
    different architecture, or at a different precision, give a different digest.
    """
    digest = hashlib.sha256(f"{purpose} {bfloat16_is_fast()} {network}".encode())
    digest.update(symbolic_trace(network).code.encode())
    for key, value in network.state_dict().items():
        digest.update(key.encode())
        digest.update(value.numpy().tobytes())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:24]
