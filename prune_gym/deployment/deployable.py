"""A network ready to be deployed, from a strategy or from a file."""

import copy
from pathlib import Path
from typing import NamedTuple

from torch import nn

from prune_gym import datasets, models
from prune_gym._utils.plugins import not_called
from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.network_file import (
    SUFFIX,
    function_in,
    load_network,
    read_network_spec,
)
from prune_gym.compression.quantize import QuantizedLayer
from prune_gym.compression.surgery import replace_module
from prune_gym.datasets import AnyData
from prune_gym.envs.replay import environment_of
from prune_gym.errors import UserError
from prune_gym.graph.input_shapes import InputShape
from prune_gym.graph.inputs import shape_of
from prune_gym.graph.residual_blocks import for_inference
from prune_gym.graph.trace import trace
from prune_gym.search_space.strategy import load_strategy


class Deployable(NamedTuple):
    """A network in eval mode, float32, the data it is for, and whether its strategy says bits."""

    network: nn.Module
    data: AnyData
    quantized: bool

    @property
    def input_shape(self) -> InputShape:
        """(C, H, W) of an image, or the shapes of several inputs."""
        return shape_of(self.data.search.images)


def load_deployable(path: Path, network: str | None = None, data: str | None = None) -> Deployable:
    """Return the network of ``STRATEGY.json`` or ``NETWORK.safetensors``.

    ``network`` and ``data`` take the place of what a strategy names; for a file they are the
    function that returns the original network, and the name of the data.

    Raises:
        MissingFileError: no such file.
        UserError: not such a file, or damaged; or one that does not say its data.
    """
    if path.suffix == ".json":
        strategy = load_strategy(path)
        env = environment_of(strategy, network, data)
        return deployable(env.problem.apply(strategy), env.problem.evaluator.data)
    if path.suffix != SUFFIX:
        raise UserError(f"{path}: expected STRATEGY.json or NETWORK{SUFFIX}")
    spec, function = read_network_spec(path), function_in(network or "")
    if network and not function:
        raise UserError(f"network: expected package.module:function, got {network!r}")
    if not (data or spec.data):
        raise UserError(
            f"{path} does not say which data it is for: give --data. What compress() found writes "
            "itself, result.export(PATH)"
        )
    if data is None and ":" in spec.data:
        raise not_called(str(path), spec.data, "data")
    loaded = load_network(f"{function}@{path}" if function else path)
    return deployable(loaded, models.normalized_for(spec.network, datasets.load(data or spec.data)))


def deployable(network: nn.Module, data: AnyData) -> Deployable:
    """Return a network with its data, and whether a layer of it has bits."""
    quantized = any(isinstance(module, QuantizedLayer) for module in network.modules())
    return Deployable(network, data, quantized)


def folded(network: nn.Module, input_shape: InputShape) -> nn.Module:
    """Return a copy as it is deployed: float32, quantized weights as floats, batch-norm folded."""
    network = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    for name, module in list(network.named_modules()):
        if isinstance(module, QuantizedLayer):
            replace_module(network, name, module.as_float())
    network = fold_batch_norm(network, trace(network, input_shape))
    return for_inference(network, input_shape)
