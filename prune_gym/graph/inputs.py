"""The inputs of a network: one tensor, or several.

Several are `Inputs`. They are counted, sliced and moved like one tensor of examples, so that code
which does no more than that need not know how many there are. `feed` calls a network with either.
"""

import inspect
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.fx.node import map_aggregate
from torch.utils._pytree import register_pytree_node, tree_leaves, tree_map

from prune_gym.graph.input_shapes import InputShape, InputShapes, Shape, kind_of

DTYPES = {"int": torch.int64, "bool": torch.bool}  # floats are of the network's type


@dataclass(frozen=True, eq=False)
class Inputs:
    """Several inputs of a network, tensors or arrays with a row for every example.

    ``torch.utils._pytree.tree_map`` applies a function to each of them.

    Attributes:
        parts: the tensors or arrays.
        names: the arguments of the network's forward that they are; () where they go by position.
    """

    parts: tuple[Any, ...]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.parts[0])

    def __getitem__(self, rows: Any) -> "Inputs":
        """Return some examples."""
        return tree_map(lambda each: each[rows], self)

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.parts[0].device

    @property
    def nbytes(self) -> int:
        """The memory that they take."""
        return sum(each.nbytes for each in self.parts)

    def to(self, device: torch.device) -> "Inputs":
        """Return the tensors on a device."""
        return tree_map(lambda each: each.to(device), self)

    def split(self, count: int) -> list["Inputs"]:
        """Return batches of ``count`` examples; the last one may have fewer."""
        return [self[start : start + count] for start in range(0, len(self), count)]


register_pytree_node(
    Inputs,
    lambda each: (list(each.parts), each.names),
    lambda parts, names: Inputs(tuple(parts), names),
)

Tensors: TypeAlias = torch.Tensor | Inputs
Arrays: TypeAlias = np.ndarray | Inputs


def feed(network: Any, inputs: Tensors) -> Any:
    """Return what a network computes of one tensor, or of several."""
    if not isinstance(inputs, Inputs):
        return network(inputs)
    if inputs.names:
        return network(**dict(zip(inputs.names, inputs.parts, strict=True)))
    return network(*inputs.parts)


def arguments(network: nn.Module, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the named arguments of a network's forward, in its order."""
    if not isinstance(inputs, Inputs):
        return (inputs,), {}
    if not inputs.names:
        return inputs.parts, {}
    named = dict(zip(inputs.names, inputs.parts, strict=True))
    bound = inspect.signature(network.forward).bind(**named)
    return bound.args, bound.kwargs


def argument_names(network: nn.Module, inputs: Any) -> list[str]:
    """Return the names of the arguments that the inputs are, in the order of `ordered`.

    Those of ``*inputs`` are called x, x_1 and so on.
    """
    if isinstance(inputs, Inputs) and inputs.names:
        return ordered(network, Inputs(inputs.names, inputs.names))
    count = len(tree_leaves(inputs))
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(network.forward).parameters.values()
    names = [each.name for each in parameters if each.kind in positional]
    more = [f"x_{at}" if at else "x" for at in range(count)]
    return (names + more[len(names) :])[:count]


def ordered(network: nn.Module, inputs: Any) -> list[Any]:
    """Return the inputs in the order of the arguments of a network's forward."""
    args, kwargs = arguments(network, inputs)
    return [*args, *kwargs.values()]


def shape_of(inputs: torch.Tensor | np.ndarray | Inputs) -> InputShape:
    """Return the shape of one example: (C, H, W) of an image, (L,) of token ids."""
    if not isinstance(inputs, Inputs):
        return tuple(inputs.shape[1:])
    shapes = tuple(tuple(each.shape[1:]) for each in inputs.parts)
    return InputShapes(shapes, tuple(map(_kind, inputs.parts)), inputs.names)


def _kind(part: torch.Tensor | np.ndarray) -> str:
    name = str(part.dtype)
    if "bool" in name:
        return "bool"
    return "float" if "float" in name or "uint8" in name else "int"  # bytes become floats


def like(network: nn.Module) -> dict[str, Any]:
    """Return the type and device of the network's first weight."""
    for each in network.parameters():
        if each.is_floating_point():
            return {"dtype": each.dtype, "device": each.device}
    return {"dtype": torch.float32}


def zeros(network: nn.Module, input_shape: InputShape, count: int = 1) -> Any:
    """Return zeros as the network takes images (N, C, H, W), token ids (N, L), or several inputs.

    Booleans are False.
    """
    options = like(network)

    def part(shape: Shape, kind: str) -> torch.Tensor:
        dtype = {} if kind == "float" else {"dtype": DTYPES[kind]}
        return torch.zeros(count, *shape, **options | dtype)

    if not isinstance(input_shape, InputShapes):
        return part(input_shape, kind_of(input_shape))
    pairs = zip(input_shape.shapes, input_shape.kinds, strict=True)
    return Inputs(tuple(part(*pair) for pair in pairs), input_shape.names)


def different(network: nn.Module, input_shape: InputShape) -> Any:
    """Return two examples whose numbers differ; of token ids, whose number is not known, zeros."""
    return tree_map(_different, zeros(network, input_shape, 2))


def _different(whole: torch.Tensor) -> torch.Tensor:
    if whole.dtype == torch.bool:  # some True and some False for each example
        return (torch.arange(whole.numel(), device=whole.device) % 2 == 0).view_as(whole)
    if not whole.is_floating_point():
        return whole
    return torch.linspace(-1, 1, whole.numel()).to(whole).view_as(whole)


def tensors(outputs: Any) -> list[torch.Tensor]:
    """Return the tensors in what a network returns, in order."""
    found: list[torch.Tensor] = []
    map_aggregate(outputs, lambda each: found.append(each) if torch.is_tensor(each) else None)
    return found
