"""Pruned networks on disk: safetensors with the recipe to rebuild them in the header; no pickle."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from prune_gym import models
from prune_gym._utils.paths import write_atomically
from prune_gym._utils.plugins import call_named
from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.quantize import QuantizedLayer
from prune_gym.compression.surgery import cut, first_channels, replace_module
from prune_gym.errors import MissingFileError, UserError
from prune_gym.graph.configuration import Configuration
from prune_gym.graph.residual_blocks import skip_blocks
from prune_gym.graph.trace import trace
from prune_gym.models.weights_file import load_weights

FORMAT, SUFFIX = "prune-gym-network-2", ".safetensors"


def save_network(
    network: nn.Module,
    path: Path,
    *,
    name: str,
    num_classes: int,
    configuration: Configuration,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    data: str = "",
) -> None:
    """Write a pruned network's float32 weights and the recipe to rebuild it.

    Args:
        network: what ``env.apply(strategy)`` returned.
        path: the safetensors file.
        name: what the environment was made with: a name in ``prune_gym.models.NETWORKS``, a
            pruned network's file, or ``package.module:function``; any for one's own.
        num_classes: what it was built with.
        configuration: what the strategy comes to: ``env.configure(strategy)``.
        input_shape: (C, H, W) of an image.
        data: the name of the data it is for, where they have one.
    """
    recipe = make_recipe(
        network,
        name=name,
        num_classes=num_classes,
        configuration=configuration,
        input_shape=input_shape,
        data=data,
    )
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    write_atomically(Path(path), save(state, recipe))


def make_recipe(
    network: nn.Module,
    *,
    name: str,
    num_classes: int,
    configuration: Configuration,
    input_shape: tuple[int, int, int],
    data: str,
) -> dict[str, str]:
    """Return what rebuilds a pruned network of any weights; arguments as of `save_network`."""
    base = read_recipe(name) if name.endswith(SUFFIX) else None  # it was pruned before
    return {
        "format": FORMAT,
        "network": base["network"] if base else name,
        "base": json.dumps(base) if base else "",
        "data": data,
        "num_classes": str(num_classes),
        "input_shape": json.dumps(list(input_shape)),
        "widths": json.dumps([int(width) for width in configuration.widths[0]]),
        "blocks": json.dumps(
            None if configuration.blocks is None else configuration.blocks[0].tolist()
        ),
        "bits": json.dumps(_bits(network)),
        "pads": json.dumps({key: list(pad.padding) for key, pad in _pads(network).items()}),
    }


def load_network(path: str | Path, build: Callable[[int], nn.Module] | None = None) -> nn.Module:
    """Rebuild a pruned network from its file, in eval mode.

    Args:
        path: what :func:`save_network` (or ``prune-gym apply``) wrote.
        build: for a network of one's own, the function that builds the original for a number of
            classes; by default the recipe's name is looked up.

    Raises:
        MissingFileError: no such file.
        UserError: the file is damaged, or of another kind.
    """
    network = _rebuild(read_recipe(path), build)
    load_weights(network, Path(path))
    return network.eval()


def _rebuild(recipe: dict[str, str], build: Callable[[int], nn.Module] | None) -> nn.Module:
    """Return a network of the recipe's shape with any weights."""
    original = _original(recipe, build)
    table = trace(original.eval(), tuple(json.loads(recipe["input_shape"])))
    network = cut(original, table, first_channels(table, np.array(json.loads(recipe["widths"]))))
    _set_pads(network, recipe)
    skipped = table.skipped(json.loads(recipe["blocks"]))
    network = skip_blocks(network, skipped, table.input_shape)
    if bits := json.loads(recipe["bits"]):
        fold_batch_norm(network, table)
        for layer, (weights, inputs) in bits.items():
            module = cast(nn.Conv2d | nn.Linear, network.get_submodule(layer))
            replace_module(network, layer, QuantizedLayer(module, weights, inputs))
    return network


def _original(recipe: dict[str, str], build: Callable[[int], nn.Module] | None) -> nn.Module:
    if recipe["base"]:
        return _rebuild(json.loads(recipe["base"]), build)
    if build is not None:
        return build(int(recipe["num_classes"]))
    if ":" in recipe["network"]:
        return call_named(recipe["network"], (nn.Module,), "network")
    if recipe["network"] not in models.NETWORKS:
        raise UserError(
            f"the file is of {recipe['network']}, a network of one's own: give load_network(path, "
            "build=...), a function from the number of classes to the original"
        )
    return models.build(recipe["network"], int(recipe["num_classes"]))


def read_recipe(path: str | Path) -> dict[str, str]:
    """Return the header of a pruned network's file: how it is rebuilt.

    Raises:
        MissingFileError: no such file.
        UserError: the file is damaged, or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; `prune-gym apply` writes pruned networks")
    try:
        with safe_open(path, framework="pt") as file:
            recipe = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a whole safetensors file ({error})") from None
    if recipe.get("format") != FORMAT:
        raise UserError(
            f"{path}: expected format {FORMAT!r} in the header, got {recipe.get('format')!r}"
        )
    return recipe


def _pads(network: nn.Module) -> dict[str, nn.ConstantPad3d]:
    """Return what pads channels, on the shortcuts of a CIFAR ResNet, say."""
    modules = network.named_modules()
    return {name: each for name, each in modules if isinstance(each, nn.ConstantPad3d)}


def _set_pads(network: nn.Module, recipe: dict[str, str]) -> None:
    """Pad as the network did that was written: that depends on which channels were kept."""
    if "pads" not in recipe and _pads(network):
        raise UserError(
            f"a file of {recipe['network']} by an earlier version, which did not say where its "
            "shortcuts are padded: write it again (`prune-gym apply` or `finetune`)"
        )
    for name, padding in json.loads(recipe.get("pads", "{}")).items():
        cast(nn.ConstantPad3d, network.get_submodule(name)).padding = tuple(padding)


def _bits(network: nn.Module) -> dict[str, tuple[int, int]]:
    """Return the bits of weights and inputs of every quantised layer."""
    return {
        name: (module.weight_bits, module.activation_bits)
        for name, module in network.named_modules()
        if isinstance(module, QuantizedLayer)
    }
