"""What a network computes, in a few letters: files in the cache folder are named by it."""

import hashlib
from collections.abc import Iterable

import numpy as np
from torch import nn
from torch.fx import symbolic_trace

from prune_gym.compression.precision import bfloat16_is_fast


def fingerprint(purpose: str, network: nn.Module, arrays: Iterable[np.ndarray]) -> str:
    """Return a digest of a network and of the arrays that it is given.

    ``purpose`` names what is computed from them, with a version of how. Equal weights in another
    architecture, or at another precision, come to another digest.
    """
    digest = hashlib.sha256(f"{purpose} {bfloat16_is_fast()} {network}".encode())
    digest.update(symbolic_trace(network).code.encode())
    for key, value in network.state_dict().items():
        digest.update(key.encode())
        digest.update(value.numpy().tobytes())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:24]
