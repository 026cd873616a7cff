"""Physical surgery: from a network and the kept channels to a smaller network."""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.layer_types import BatchNorm, Convolution


def cut(network: nn.Module, table: LayerTable, kept: Sequence[np.ndarray]) -> nn.Module:
    """Return a smaller copy of ``network`` that has only the kept channels.

    ``kept[g]`` holds the sorted indices of the channels of group g that stay. The network itself
    is not changed and shares no memory with the copy.
    """
    keep = kept_positions(network, table, kept)
    names, parameters = {name for name, _ in keep}, dict(table.parameters)
    candidate = _copy_without_weights(network, names - parameters.keys())
    for name in sorted(names):  # a module before what is in it
        if name in parameters:
            _cut_parameter(candidate, name, parameters[name], keep[name, "out"])
            continue
        small = _cut_module(
            network.get_submodule(name), keep.get((name, "out")), keep.get((name, "in"))
        )
        replace_module(candidate, name, small)
    widths = np.array([len(channels) for channels in kept])
    for attribute in table.attributes:
        owner = candidate.get_submodule(attribute.module)
        setattr(owner, attribute.name, attribute.channels(widths))
    return candidate


def kept_positions(
    network: nn.Module, table: LayerTable, kept: Sequence[np.ndarray]
) -> dict[tuple[str, str], np.ndarray]:
    """Return for every cut dimension (module, "out" | "in") the positions that stay, ascending."""
    masks: dict[tuple[str, str], np.ndarray] = {}
    parameters = dict(table.parameters)
    for group, channels in zip(table.groups, kept, strict=True):
        dropped = np.ones(group.size, dtype=bool)
        dropped[channels] = False
        for member in group.members:
            key = (member.module, member.dim)
            if key not in masks:
                if member.module in parameters:
                    extent = network.get_parameter(member.module).shape[parameters[member.module]]
                else:
                    extent = _extent(network.get_submodule(member.module), member.dim)
                masks[key] = np.ones(extent, bool)
            masks[key][member.positions[dropped]] = False
    return {key: np.flatnonzero(mask) for key, mask in masks.items()}


def as_index(positions: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """Return positions, or the places where a mask is true, as an index into ``like``."""
    places = np.flatnonzero(positions) if positions.dtype == bool else positions
    return torch.from_numpy(places).to(like.device)


def _extent(module: nn.Module, dim: str) -> int:
    if isinstance(module, BatchNorm):
        return module.num_features
    if isinstance(module, nn.ConstantPad3d):
        return sum(module.padding[4:])
    weight = module.get_parameter("weight")
    return weight.shape[0 if dim == "out" else 1]


def _copy_without_weights(network: nn.Module, cut_modules: set[str]) -> nn.Module:
    """Deep-copy the network, leaving out what is replaced anyway."""
    memo: dict[int, object] = {
        id(network.get_submodule(name)): nn.Identity() for name in cut_modules
    }
    return copy.deepcopy(network, memo)


def _cut_module(module: nn.Module, out: np.ndarray | None, inputs: np.ndarray | None) -> nn.Module:
    """Return a copy of a layer with the given positions of its output and input channels."""
    small = copy.copy(module)
    # Its parameters, buffers and hooks are dictionaries: each layer gets its own.
    small.__dict__ = {
        key: copy.copy(value) if isinstance(value, dict) else value
        for key, value in module.__dict__.items()
    }
    small._modules = {name: copy.deepcopy(held) for name, held in module._modules.items()}
    for name, tensor in [*small._parameters.items(), *small._buffers.items()]:
        if tensor is None:
            continue
        value = tensor.detach()
        if out is not None and value.ndim:
            value = value.index_select(0, as_index(out, value))
        if inputs is not None and name == "weight":
            value = value.index_select(1, as_index(inputs, value))
        if name in small._parameters:
            small._parameters[name] = nn.Parameter(value.clone(), tensor.requires_grad)
        else:
            small._buffers[name] = value.clone()
    if isinstance(small, nn.ConstantPad3d) and out is not None:
        before = int((out < small.padding[4]).sum())
        small.padding = (*small.padding[:4], before, len(out) - before)
    _set_sizes(small)
    return small


def _cut_parameter(network: nn.Module, name: str, axis: int, keep: np.ndarray) -> None:
    """Keep the given positions of a parameter outside of a layer, in place."""
    owner, _, attribute = name.rpartition(".")
    whole = network.get_parameter(name)
    value = whole.detach().index_select(axis, as_index(keep, whole))
    small = nn.Parameter(value, whole.requires_grad)
    holder = network.get_submodule(owner)
    setattr(holder, attribute, small)
    if isinstance(holder, nn.Embedding):
        holder.embedding_dim = small.shape[1]


def _set_sizes(module: nn.Module) -> None:
    """Make the layer's attributes say what its weights are."""
    if isinstance(module, BatchNorm):
        module.num_features = len(module.get_buffer("running_mean"))
    elif isinstance(module, nn.GroupNorm):
        each = module.num_channels // module.num_groups
        module.num_channels = len(module.weight)
        module.num_groups = module.num_channels // each
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(module.weight.shape)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, Convolution):
        if 1 < module.groups == module.in_channels:  # depthwise
            module.groups = module.weight.shape[0] * module.groups // module.out_channels
        module.out_channels = module.weight.shape[0]
        module.in_channels = module.weight.shape[1] * module.groups


def replace_module(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put ``module`` in the place of the submodule called ``name``."""
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)


def first_channels(table: LayerTable, widths: Mapping[str, int] | np.ndarray) -> list[np.ndarray]:
    """Return the first ``width`` channels of every group: a cut's shape, whatever its weights."""
    counts = [widths[g.name] for g in table.groups] if isinstance(widths, Mapping) else widths
    return [np.arange(int(count)) for count in counts]
