"""Read and write weights: safetensors, fp16, with their measured accuracy in the header."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from prune_gym._utils.paths import write_atomically
from prune_gym._utils.state import damaged, state_tensors
from prune_gym.errors import UserError


def save_weights(network: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write the network's state as fp16 safetensors with ``metadata`` in the header."""
    state = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in state_tensors(network).items()
        if not key.endswith("num_batches_tracked")
    }
    write_atomically(path, save(state, metadata))


def as_bytes(network: nn.Module, metadata: dict[str, str] | None = None) -> bytes:
    """Return a safetensors file of a network's tensors, with ``metadata`` in the header.

    A tensor with two names is written twice.
    """
    state = {
        key: value.clone(memory_format=torch.contiguous_format)
        for key, value in state_tensors(network).items()
    }
    return save(state, metadata)


def load_weights(network: nn.Module, path: Path) -> dict[str, str]:
    """Fill ``network`` with the weights in ``path`` and return the header's metadata.

    Raises:
        UserError: the file is damaged, or its tensors are not this network's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a whole safetensors file ({error}); fetch it again"
        ) from None
    fill(network, state, path)
    return metadata


def fill(network: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Copy ``state``, read from ``path``, into ``network``.

    Raises:
        UserError: its tensors are not this network's, or hold NaN or infinite values.
    """
    expected = {
        key: value
        for key, value in state_tensors(network).items()
        if not key.endswith("num_batches_tracked")
    }
    for key in sorted(expected.keys() | state.keys()):
        if key.endswith("num_batches_tracked"):
            continue
        wants = tuple(expected[key].shape) if key in expected else "no such tensor"
        has = tuple(state[key].shape) if key in state else "no such tensor"
        if wants != has:
            raise UserError(
                f"{path}: tensor {key!r}: {type(network).__name__} expects {wants}, the file has "
                f"{has}; these weights belong to a different network"
            )
    if wrong := damaged(network, state):
        raise UserError(f"{path}: tensor {wrong!r} holds NaN or infinite values; fetch it again")
    network.load_state_dict({key: state[key] for key in expected}, strict=False)


def weights_checksum(network: nn.Module) -> str:
    """Return a checksum of a network's weights and buffers."""
    digest = hashlib.sha256()
    for name, value in state_tensors(network).items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.cpu().numpy()).tobytes())
    return digest.hexdigest()
