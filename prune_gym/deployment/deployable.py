"""A network ready to be deployed, from a strategy or from a file."""

import copy
from pathlib import Path
from typing import NamedTuple

from torch import nn

from prune_gym import datasets, models
from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.network_file import SUFFIX, load_network, read_recipe
from prune_gym.compression.quantize import QuantizedLayer
from prune_gym.compression.surgery import replace_module
from prune_gym.datasets import Data, DetectionData
from prune_gym.deployment.apply import environment_of
from prune_gym.errors import UserError
from prune_gym.graph.trace import trace
from prune_gym.search_space.strategy import load_strategy


class Deployable(NamedTuple):
    """A network in eval mode, float32, the data it is for, and whether its strategy says bits."""

    network: nn.Module
    data: Data | DetectionData
    quantized: bool

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.data.search.images.shape[1:]


def load_deployable(path: Path) -> Deployable:
    """Return the network of ``STRATEGY.json`` or ``NETWORK.safetensors``.

    Raises:
        MissingFileError: no such file.
        UserError: a file of another kind, or damaged; or one that does not say its data.
    """
    if path.suffix == ".json":
        strategy = load_strategy(path)
        env = environment_of(strategy)
        return deployable(env.problem.apply(strategy), env.problem.evaluator.data)
    if path.suffix != SUFFIX:
        raise UserError(f"{path}: expected STRATEGY.json or NETWORK{SUFFIX}")
    recipe = read_recipe(path)
    if not recipe.get("data"):
        raise UserError(
            f"{path} does not say which data it is for: a file of `prune-gym apply` does; what "
            "compress() found writes itself, result.export(PATH)"
        )
    data = models.normalized_for(recipe["network"], datasets.load(recipe["data"]))
    return deployable(load_network(path), data)


def deployable(network: nn.Module, data: Data | DetectionData) -> Deployable:
    """Say of a network whether it is quantised."""
    quantized = any(isinstance(module, QuantizedLayer) for module in network.modules())
    return Deployable(network, data, quantized)


def folded(network: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """Return a copy as it is deployed: float32, quantised weights as floats, batch-norm folded."""
    network = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    for name, module in list(network.named_modules()):
        if isinstance(module, QuantizedLayer):
            replace_module(network, name, module.as_float())
    return fold_batch_norm(network, trace(network, input_shape))
