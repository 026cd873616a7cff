"""Write and read pruned networks: safetensors with a network spec in the header; no pickle."""

import copy
import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import nn

from prune_gym import models
from prune_gym._utils.paths import write_atomically
from prune_gym._utils.plugins import call_named, not_called
from prune_gym.compression import network_spec as specs
from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.network_spec import NetworkSpec, channel_pads, network_spec
from prune_gym.compression.quantize import QuantizedLayer
from prune_gym.compression.surgery import cut, first_channels, replace_module
from prune_gym.errors import UserError, UserTypeError
from prune_gym.graph.configuration import Configuration
from prune_gym.graph.input_shapes import as_input_shape
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.layer_types import Convolution
from prune_gym.graph.residual_blocks import skip_blocks
from prune_gym.graph.trace import trace
from prune_gym.models.weights_file import as_bytes, load_weights

SUFFIX = ".safetensors"
FUNCTION_AND_FILE = re.compile(r"([\w.]+:\w+)@(.+)")


def save_network(
    network: nn.Module,
    path: str | Path,
    *,
    name: str,
    num_classes: int,
    configuration: Configuration,
    input_shape: Any = (3, 32, 32),
    data: str = "",
) -> None:
    """Write a pruned network's float32 weights, and the spec to rebuild it, to one file.

    Args:
        network: what ``env.apply(strategy)`` returned.
        path: the safetensors file.
        name: what the environment was made with: a name in ``prune_gym.models.NETWORKS``, a
            pruned network's file, or ``package.module:function``; any for your own module.
        num_classes: what it was built with.
        configuration: that of the strategy: ``env.configure(strategy)``.
        input_shape: (C, H, W) of an image; of several inputs as of `prune_gym.graph.trace.trace`.
        data: the name of the data it is for, where they have one.

    Raises:
        FileAccessError: the file cannot be written.
    """
    spec = spec_of(
        network,
        name=name,
        num_classes=num_classes,
        configuration=configuration,
        input_shape=input_shape,
        data=data,
    )
    write_atomically(Path(path), as_bytes(network, spec.as_header()))


def spec_of(
    network: nn.Module,
    *,
    name: str,
    num_classes: int,
    configuration: Configuration,
    input_shape: Any,
    data: str,
) -> NetworkSpec:
    """Return the spec of a pruned network of any weights; arguments as of `save_network`."""
    return network_spec(
        network,
        name=name,
        base=read_network_spec(name) if is_network_file(name) else None,
        num_classes=num_classes,
        configuration=configuration,
        input_shape=as_input_shape(input_shape),
        data=data,
    )


def load_network(path: str | Path, build: Callable[[int], nn.Module] | None = None) -> nn.Module:
    """Load a pruned network: rebuild its shape, fill in its weights, return it in eval mode.

    A file never names code to run. Where the original is the user's own network, the user gives
    the code again: ``build``, or ``path`` as ``"package.module:function@FILE"`` with a function
    that returns the original.

    Args:
        path: what `save_network`, ``prune-gym apply`` or ``prune-gym finetune`` wrote.
        build: a function from the number of classes to the original architecture; None looks the
            name in the file up in ``prune_gym.models.NETWORKS``.

    Returns:
        A plain ``nn.Module`` for images normalized like those of its data, float32 (N, C, H, W).

    Raises:
        MissingFileError: no such file.
        UserTypeError: ``build`` returns no network.
        UserError: the file is damaged, no pruned network, or of the user's own network without
            ``build``; or ``build`` takes no number of classes.

    Example:
        >>> network = load_network("runs/mine/front/004.safetensors")  # doctest: +SKIP
        >>> logits = network(images)  # doctest: +SKIP
    """
    spec, file = read_network_spec(path), network_path(path)
    if build is None and (function := function_in(str(path))):
        original = call_named(function, (nn.Module,), "network")
    else:
        original = _original(spec, build, file)
    try:
        network = _rebuild(spec, original)
    except UserError as error:
        raise UserError(f"{file} cannot be rebuilt: {error}") from error
    load_weights(network, file)
    return network.eval()


def read_network_spec(path: str | Path) -> NetworkSpec:
    """Read what a pruned network's file says of its network; ``path`` as of `load_network`.

    Raises:
        MissingFileError: no such file.
        UserError: the file is damaged, or no pruned network.
    """
    return specs.read_network_spec(network_path(path))


def is_network_file(name: str) -> bool:
    """Whether a network's name is a file, or a function and a file."""
    return name.endswith(SUFFIX)


def network_path(name: str | Path) -> Path:
    """Return the file of ``FILE`` or ``package.module:function@FILE``."""
    found = FUNCTION_AND_FILE.fullmatch(str(name))
    return Path(found[2] if found else name)


def function_in(name: str) -> str | None:
    """Return the function that a network's name names, None where it names none."""
    if is_network_file(name):
        found = FUNCTION_AND_FILE.fullmatch(name)
        return found[1] if found else None
    return name if ":" in name else None


def _original(spec: NetworkSpec, build: Callable[[int], nn.Module] | None, file: Path) -> nn.Module:
    """Return the architecture that was pruned first, with any weights."""
    while spec.base is not None:
        spec = spec.base
    if build is not None:
        return _built(build, spec.num_classes)
    if spec.network in models.NETWORKS:
        return models.build(spec.network, spec.num_classes)
    if ":" in spec.network:
        raise not_called(str(file), f"{spec.network}@{file}", "network")
    raise UserError(
        f"{file} is of {spec.network}, the user's own network: give load_network(path, "
        "build=...), a function from the number of classes to the original"
    )


def _built(build: Callable[[int], nn.Module], num_classes: int) -> nn.Module:
    expected = "build: expected a function from the number of classes to the original network"
    try:
        inspect.signature(build).bind(num_classes)
    except TypeError as error:
        raise UserError(
            f"{expected}, such as lambda classes: MyNetwork(); got {build!r} ({error})"
        ) from error
    network = build(num_classes)
    if not isinstance(network, nn.Module):
        raise UserTypeError(f"{expected}; it returned {type(network).__name__}")
    return network


def _rebuild(spec: NetworkSpec, original: nn.Module) -> nn.Module:
    """Return a network of the spec's shape with any weights."""
    if spec.base is not None:
        original = _rebuild(spec.base, original)
    table = trace(original.eval(), spec.input_shape)
    _check_fits(spec, table, original)
    network = cut(original, table, first_channels(table, np.array(spec.widths)))
    for name, padding in (spec.pads or {}).items():
        cast(Any, channel_pads(network)[name]).padding = padding
    network = skip_blocks(
        network, table.skipped(spec.blocks or [True] * len(table.blocks)), table.input_shape
    )
    if spec.bits:
        fold_batch_norm(network, table)
        for name, (weights, inputs) in spec.bits.items():
            layer = dict(network.named_modules()).get(name)
            if not isinstance(layer, Convolution | nn.Linear):
                raise UserError(f"bits: the network has no layer {name!r} with weights")
            replace_module(network, name, QuantizedLayer(layer, weights, inputs))
    return network


def rebuilt_table(spec: NetworkSpec, original: nn.Module) -> LayerTable:
    """Return the layer table of a pruned network, with float layers in the place of quantized ones.

    ``original`` is the network of any weights that was pruned first; it is left as it is.
    """
    network = _rebuild(replace(spec, bits={}), copy.deepcopy(original))
    return trace(network.eval(), spec.input_shape)


def kept_shares(spec: NetworkSpec, original: nn.Module) -> dict[str, float]:
    """Return which share of each layer's weights is kept, for the layers of which that is known."""
    if spec.density is None:
        return {}
    before = (
        trace(original, spec.input_shape)
        if spec.base is None
        else rebuilt_table(spec.base, original)
    )
    names = [before.layers[index].name for index in before.weighted]
    return dict(zip(names, spec.density, strict=True))


def _check_fits(spec: NetworkSpec, table: LayerTable, original: nn.Module) -> None:
    """Refuse a spec that does not fit the original."""
    full = table.full
    if len(spec.widths) != len(full) or (np.array(spec.widths) > full).any():
        raise UserError(
            f"widths: expected {len(full)} widths of at most {full.tolist()} channels, got "
            f"{list(spec.widths)}"
        )
    if spec.blocks is not None and len(spec.blocks) != len(table.blocks):
        raise UserError(f"blocks: expected {len(table.blocks)}, got {len(spec.blocks)}")
    if spec.density is not None and len(spec.density) != len(table.weighted):
        raise UserError(f"density: expected {len(table.weighted)} shares, got {len(spec.density)}")
    pads = channel_pads(original)
    if spec.pads is None and pads:
        raise UserError(
            "it was written by an earlier version, which did not say where its shortcuts are "
            "padded: write it again (`prune-gym apply` or `finetune`)"
        )
    if missing := (spec.pads or {}).keys() - pads.keys():
        raise UserError(f"pads: the network has no module {min(missing)!r} that pads channels")
