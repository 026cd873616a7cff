"""Does a network that was traced really run as its table says, once it is cut?"""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.fx.node import map_aggregate
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from prune_gym._utils.device import to_dtype
from prune_gym.compression.surgery import as_index, cut, first_channels, kept_positions
from prune_gym.errors import UserError, first_line
from prune_gym.graph.inputs import Tensors, feed
from prune_gym.graph.layer_table import LayerTable

IMAGES = 2
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2}  # of the largest output


def count_classes(outputs: Any) -> int:
    """Return how many classes a network's outputs are of.

    Raises:
        UserError: it is no classifier.
    """
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
        raise UserError("expected a classifier: images (N, C, H, W) -> logits (N, classes)")
    return outputs.shape[1]


@torch.inference_mode()
def check_cut(network: nn.Module, table: LayerTable, images: Tensors) -> None:
    """Cut half of all channels away, run what is left, and compare it with table and original.

    Args:
        network: the original, in eval mode.
        table: its layer table.
        images: normalized, as the search gives them to candidates (N, C, H, W); or several inputs.

    Raises:
        UserError: the cut network does not run, one of its layers has another size than the table
            says, or it computes something else than the original without the cut channels.
    """
    images = images[:IMAGES]
    kept = first_channels(table, (table.full + 1) // 2)
    candidate = cut(network, table, kept)
    _check_sizes(type(network).__name__, candidate, table, images)
    error, dtype = largest_error(network, table, kept, images[:1])
    if not error <= TOLERANCE[dtype]:
        raise UserError(
            f"{type(network).__name__} runs with half of its channels, but it computes something "
            f"else than the original without the others (by {error:.1%} of its largest output): is "
            "a number of channels used in its forward?"
        )


def _check_sizes(kind: str, candidate: nn.Module, table: LayerTable, images: Tensors) -> None:
    found: dict[str, int] = {}

    def note(name: str, module: nn.Module, _: tuple, output: torch.Tensor) -> None:
        weight = module.get_parameter("weight")
        numbers = weight.numel() * output.numel() // len(weight)
        found[name] = found.get(name, 0) + numbers

    names = [table.layers[index].name for index in table.weighted]
    handles = []
    try:
        feed(candidate, images)
        handles = [
            candidate.get_submodule(name).register_forward_hook(partial(note, name))
            for name in names
        ]
        feed(candidate, images[:1])  # a layer may compute the same for all images, and once
    except Exception as error:  # whatever its forward raises
        raise UserError(
            f"{kind} runs, but not with half of its channels ({first_line(error)}): is a number of "
            "channels, or of images, written in its forward?"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    widths = (table.full + 1) // 2
    expected = table.weights(table.configuration(widths[None]))[0] * table.weighted_pixels
    uncounted = dict(table.uncounted)  # further calls of a layer that are not understood
    for name, count in zip(names, expected, strict=True):
        if found.get(name, 0) - uncounted.get(name, 0) != count:
            raise UserError(
                f"layer {name!r} has {found.get(name, 0):,} multiply-adds when cut, and the "
                f"original's forward says {count:,.0f}: is a size computed from the channels?"
            )


@torch.inference_mode()
def largest_error(
    network: nn.Module, table: LayerTable, kept: Sequence[np.ndarray], images: Tensors
) -> tuple[float, torch.dtype]:
    """Return by how much the cut network is wrong, as a share of the largest output.

    It must compute what the original does when no layer reads the removed channels. Both run in
    float64; in float32 where the network cannot run otherwise. The type is returned too.
    """
    for dtype in (torch.float64, torch.float32):
        whole = to_dtype(copy.deepcopy(network), dtype)
        small = cut(whole, table, kept)
        norms = _read_no_others(whole, table, kept)
        try:
            given = tree_map(partial(_as_type, dtype), images)
            with norms:
                expected = _tensors(feed(whole, given))
            found = _tensors(feed(small, given))
        except Exception:  # whatever its forward raises on another type of numbers
            if dtype is torch.float32:
                raise
            continue
        return _difference(expected, found), dtype
    raise AssertionError("a network that ran in float32 runs no more")


def _as_type(dtype: torch.dtype, given: torch.Tensor) -> torch.Tensor:
    return given.to(dtype) if given.is_floating_point() else given


def _read_no_others(
    network: nn.Module, table: LayerTable, kept: Sequence[np.ndarray]
) -> "_NormsOfKept":
    """Let no layer read the channels that are not kept, in place.

    Layer-norms ignore them too, in the context that is returned.
    """
    kept_by_norm: dict[torch.Tensor, torch.Tensor] = {}
    norms = {layer.name for layer in table.layers if layer.kind == "layer_norm"}
    for (name, dim), positions in kept_positions(network, table, kept).items():
        if dim == "in":
            weight = network.get_submodule(name).get_parameter("weight")
            removed = np.ones(weight.shape[1], dtype=bool)
            removed[positions] = False
            weight[:, as_index(removed, weight)] = 0.0
        elif name in norms:
            scale = network.get_submodule(name).get_parameter("weight")
            kept_by_norm[scale] = as_index(positions, scale)
    return _NormsOfKept(kept_by_norm)


class _NormsOfKept(TorchFunctionMode):
    """Lets layer-norms take the mean and deviation of some channels; the others become zero."""

    def __init__(self, kept: Mapping[torch.Tensor, torch.Tensor]) -> None:
        """Take the channels that are kept, by the scales of the layer-norms."""
        super().__init__()
        self._kept = kept

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of PyTorch."""
        kwargs = kwargs or {}
        names = ("input", "normalized_shape", "weight", "bias", "eps")
        given = dict(zip(names, args, strict=False)) | kwargs if func is F.layer_norm else {}
        if given.get("weight") not in self._kept:
            return func(*args, **kwargs)
        x, keep = given["input"], self._kept[given["weight"]]
        scale, shift = given["weight"][keep], given["bias"][keep]
        normed = F.layer_norm(x[..., keep], scale.shape, scale, shift, given.get("eps", 1e-5))
        return torch.zeros_like(x).index_copy(-1, keep, normed)


def _tensors(outputs: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    map_aggregate(outputs, lambda each: found.append(each) if torch.is_tensor(each) else None)
    return found


def _difference(expected: list[torch.Tensor], found: list[torch.Tensor]) -> float:
    shares = [0.0]
    for one, other in zip(expected, found, strict=True):
        if one.shape != other.shape:
            return float("inf")
        largest = float(one.abs().max().clamp_min(1e-12))
        shares.append(float((one - other).abs().max()) / largest)
    return max(shares)
