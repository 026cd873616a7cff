"""Measure a network once: the second moments of its channels, and the order of their importance.

A "consumer" is a layer that reads pruned channels. For every consumer we keep G, the second-moment
matrix of its input channels over a few hundred training images. G gives, without more data:

- the order in which the channels of a group are kept. If the set K is kept and the removed channels
  R are replaced by their best linear mix of K, the outputs of a consumer lose the energy
  ``tr(M S_K)``, with the Schur complement ``S_K = G_RR - G_RK G_KK^-1 G_KR`` and the Gram matrix M
  of the weights of the consumer. Channels are chosen greedily (pivoted Cholesky weighted by M);
- the curve of this error over the number of kept channels. It is an observation that tells how
  sensitive a group is before any candidate is evaluated;
- the mix itself, for repair by merging (GRAIL, Tang et al. 2026, PMLR 328).
"""

import copy
import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from prune_gym._utils.device import fast_forward, outside_contexts
from prune_gym.compression.rank_heads import greedy_heads
from prune_gym.costs.flops import Flops
from prune_gym.errors import UserError
from prune_gym.graph.inputs import Tensors, feed
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.layer_types import BatchNorm, Convolution
from prune_gym.graph.skipped import running_modules

IMAGES, LEAST_IMAGES = 512, 128
MULTIPLY_ADDS = 192e9  # in a pass over the images; a network that costs more sees fewer of them
PIXELS_PER_CHANNEL = 64  # enough for the moments of such a network
MAX_INPUTS = 8_192  # a matrix of this size takes half a gigabyte
BATCH = 128
STEPS = 32  # channels that are chosen before the Schur complement is computed again


@dataclass(frozen=True)
class Calibration:
    """Second moments and channel orders of one network.

    Attributes:
        moments: consumer -> G, ``float32 (inputs, inputs)``; of a grouped convolution one for
            each of its groups, ``(groups, inputs, inputs)``; of a linear layer that reads a wide
            flattened map one for each place of the map, ``(places, 1, channels, channels)``.
        orders: per channel group, its channels from most to least important, ``int64 (size,)``.
        errors: per channel group, the share of the output energy of the consumers that is lost when
            the first k channels of the order are kept, ``float32 (size + 1,)`` from 1 (k = 0) to 0.
    """

    moments: dict[str, np.ndarray]
    orders: tuple[np.ndarray, ...]
    errors: tuple[np.ndarray, ...]


@outside_contexts
def calibrate(network: nn.Module, table: LayerTable, images: Tensors) -> Calibration:
    """Measure ``network`` on normalized images (N, C, H, W), or on several inputs.

    A network that multiplies more than `MULTIPLY_ADDS` on all of the images is measured on
    some of them and on some pixels of each map, both evenly spaced, and in bfloat16 where that is
    fast. At least `LEAST_IMAGES` are taken, and `PIXELS_PER_CHANNEL` pixels of all maps
    of a layer for each of its channels.

    Raises:
        UserError: a layer reads too many inputs, or its inputs are NaN or infinite.
    """
    moments = _second_moments(network, table, images)
    ranked = [_rank(network, table, index, moments) for index in range(len(table.groups))]
    return Calibration(
        {name: moment.float().numpy() for name, moment in moments.items()},
        tuple(order for order, _ in ranked),
        tuple(error for _, error in ranked),
    )


@torch.inference_mode()
def _second_moments(
    network: nn.Module, table: LayerTable, images: Tensors
) -> dict[str, torch.Tensor]:
    places: dict[str, int] = {}
    for name in table.consumers:
        inputs = network.get_submodule(name).get_parameter("weight").shape[1]
        if inputs > MAX_INPUTS:
            places[name] = _places_of(table, name)
            if inputs // places[name] > MAX_INPUTS:
                raise UserError(
                    f"layer {name!r} reads {inputs // places[name]:,} channels; statistics between "
                    f"them are kept for at most {MAX_INPUTS:,}"
                )
    moments: dict[str, torch.Tensor] = {}
    step = _every(table, len(images))

    def record(name: str):
        def hook(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            if isinstance(module, nn.Linear):
                x = inputs[0].flatten(0, -2).T
                if len(x) > MAX_INPUTS:
                    x = x.unflatten(0, (-1, places[name])).transpose(0, 1)[:, None]
            else:
                x = inputs[0].flatten(2)
                pixels = x.numel() // x.shape[1] ** 2 // PIXELS_PER_CHANNEL
                # Odd, so that it is no column of the map.
                x = x[:, :, :: pixels | 1 if step > 1 else 1].transpose(0, 1).flatten(1)
            if isinstance(module, Convolution) and module.groups > 1:
                x = x.unflatten(0, (module.groups, -1))
            with torch.autocast(x.device.type, enabled=False):
                x = x.float()
                moments[name] = moments.get(name, 0) + (x @ x.mT).cpu().double()

        return hook

    handles = [
        network.get_submodule(name).register_forward_pre_hook(record(name))
        for name in table.consumers
    ]
    try:
        with fast_forward(images.device) if step > 1 else nullcontext():
            for batch in images[::step].split(BATCH // step):
                feed(network, batch)
    finally:
        for handle in handles:
            handle.remove()
    for name, moment in moments.items():
        if not torch.isfinite(moment).all():
            raise UserError(
                f"layer {name!r} reads values that are NaN or infinite, or too large to square, on "
                "training images: check the layers before it (a negative running variance, weights "
                "that grew too large)"
            )
    return moments


def _every(table: LayerTable, images: int) -> int:
    """Return 1 to take all images, 2 to take every second one, and so on."""
    multiply_adds = images * Flops(table)(table.configuration())[0]
    return max(min(math.ceil(multiply_adds / MULTIPLY_ADDS), images // LEAST_IMAGES), 1)


def _places_of(table: LayerTable, name: str) -> int:
    """Return how many inputs in a row each channel has at a layer; 1 if they are not alike."""
    members = [
        m.positions
        for group in table.groups
        for m in group.members
        if (m.module, m.dim) == (name, "in")
    ]
    counts = {positions.shape[1] for positions in members}
    if len(counts) != 1:
        return 1
    (count,) = counts
    in_a_row = all(
        (positions == positions[:, :1] + np.arange(count)).all()
        and (positions[:, 0] % count == 0).all()
        for positions in members
    )
    return count if in_a_row else 1


@torch.no_grad()
def batch_statistics(
    network: nn.Module, table: LayerTable, images: Tensors
) -> dict[str, torch.Tensor]:
    """Return mean and variance of the input of every batch-norm, ``float32 (2, channels)`` each.

    All batch-norms normalize by the statistics of ``images`` in this forward pass, which runs in
    the precision that candidates are scored in. Of one that runs several times they are averages
    over its calls. The network is not changed.
    """
    modules = running_modules(network)
    norms = {
        layer.name: cast(BatchNorm, modules[layer.name])
        for layer in table.layers
        if layer.kind == "batch_norm" and layer.name in modules  # else in a skipped block
    }
    before = {name: (norm.momentum, norm.training, norm._buffers) for name, norm in norms.items()}
    found: dict[str, list[torch.Tensor]] = {name: [] for name in norms}

    def record(name: str):
        def hook(norm: nn.Module, _: Any, output: torch.Tensor) -> None:
            keys = ("running_mean", "running_var")
            found[name].append(torch.stack([norm.get_buffer(key) for key in keys]).float())

        return hook

    handles = [norm.register_forward_hook(record(name)) for name, norm in norms.items()]
    try:
        for norm in norms.values():
            norm._buffers = copy.deepcopy(norm._buffers)
            norm.training, norm.momentum = True, 1.0
        with fast_forward(images.device):
            feed(network, images)
        return {name: torch.stack(calls).mean(0) for name, calls in found.items()}
    finally:
        for handle in handles:
            handle.remove()
        for name, norm in norms.items():
            norm.momentum, norm.training, norm._buffers = before[name]


def _rank(
    network: nn.Module, table: LayerTable, index: int, moments: dict[str, torch.Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the greedy order of the channels of a group, and the error curve."""
    group, of_heads, pairs = table.groups[index], table.is_of_heads(index), []
    for member in group.members:
        if member.dim == "in":
            at = member.positions
            module = network.get_submodule(member.module)
            weight = module.get_parameter("weight").detach().cpu().double()
            # A channel that stands at m positions (a flattened map) is the sum of m parts.
            for rows, columns, moment in blocks(weight, moments[member.module]):
                # A head goes as a whole.
                for column in at.reshape(1, -1) if of_heads else at.T:
                    where = _within(columns, column)
                    if where is not None:
                        flat = rows.index_select(1, where).transpose(0, 1).flatten(1)
                        pairs.append((flat @ flat.T, moment[where][:, where]))
    return greedy_heads(pairs, group.size) if of_heads else greedy_order(pairs)


def blocks(
    weight: torch.Tensor, moments: torch.Tensor
) -> Iterator[tuple[torch.Tensor, np.ndarray, torch.Tensor]]:
    """Yield a layer's weights in blocks that have second moments.

    A block is (weights, the indices of their inputs, second moments of those): for each group of a
    convolution its rows, for each place of a wide flattened map its columns, else all of them.
    """
    inputs = np.arange(weight.shape[1])
    if moments.ndim == 4:
        for place, moment in enumerate(moments[:, 0]):
            at = slice(place, None, len(moments))
            yield weight[:, at], inputs[at], moment
        return
    each = moments if moments.ndim == 3 else moments[None]
    for rows, moment in zip(weight.chunk(len(each)), each, strict=True):
        yield rows, inputs, moment


def _within(columns: np.ndarray, chosen: np.ndarray) -> torch.Tensor | None:
    """Return where ``chosen`` stand in ``columns`` (ascending); None where they do not."""
    where = np.minimum(np.searchsorted(columns, chosen), len(columns) - 1)
    return torch.from_numpy(where) if (columns[where] == chosen).all() else None


def greedy_order(
    pairs: list[tuple[torch.Tensor, torch.Tensor]],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the greedy order and error curve for pairs (M, G), one per consumer.

    The channel that is chosen gives the column c by which the Schur complement S becomes
    ``S - c c^T``. The energies ``s_j^T M s_j`` of the other channels need only that column: they
    change by ``c_j^2 c^T M c - 2 c_j (S M c)_j``. S itself, without the chosen channels, and its
    energies are computed again every `STEPS` channels.

    Shapes: M, G ``(C, C)`` -> order ``int64 (C,)``, errors ``float32 (C + 1,)`` with errors[0] = 1.
    """
    weights, schur = (torch.stack(each) for each in zip(*pairs, strict=True))
    diagonals = schur.diagonal(dim1=1, dim2=2)
    diagonals += 1e-6 * diagonals.mean(1, keepdim=True)
    total = float((weights * schur).sum())
    floor = 1e-12 * total
    left = torch.arange(schur.shape[1])
    order: list[int] = []
    errors = [total]
    while len(left):
        energies = (schur * (weights @ schur)).sum(1)
        diagonals = schur.diagonal(dim1=1, dim2=2).clone()
        if errors[-1] <= 0:  # the rest is rounding error, or adds nothing
            gain = (energies / diagonals.clamp_min(floor)).sum(0)
            order += left[gain.argsort(descending=True)].tolist()
            errors += [0.0] * len(left)
            break
        free = torch.ones(len(left), dtype=torch.bool)
        columns = schur[:, :, :0]
        while columns.shape[2] < min(STEPS, len(left)) and errors[-1] > 0:
            gain = (energies / diagonals.clamp_min(floor)).sum(0)
            best = int(torch.where(free, gain, -torch.inf).argmax())
            free[best] = False
            order.append(int(left[best]))
            errors.append(max(errors[-1] - float(gain[best]), 0.0))
            column = schur[:, :, best, None] - columns @ columns[:, best, :, None]
            column /= diagonals[:, best, None, None].clamp_min(floor).sqrt()
            weighted = weights @ column
            change = schur @ weighted - columns @ (columns.mT @ weighted)
            change = column * (column.mT @ weighted) - 2 * change
            energies = (energies + (column * change)[..., 0]).clamp_min_(0)
            diagonals -= column[..., 0].square()
            columns = torch.cat([columns, column], 2)
        schur = (schur - columns @ columns.mT)[:, free][:, :, free]
        weights, left = weights[:, free][:, :, free], left[free]
    errors[-1] = 0.0
    return np.array(order), np.array(errors, dtype=np.float32) / max(total, 1e-12)
