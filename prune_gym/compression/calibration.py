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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn

from prune_gym.compression.precision import fast_forward, outside_contexts
from prune_gym.compression.rank_heads import greedy_heads
from prune_gym.errors import UserError
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.layer_types import BatchNorm
from prune_gym.graph.skipped import running_modules

IMAGES = 512
MAX_INPUTS = 8_192  # a matrix of this size takes half a gigabyte


@dataclass(frozen=True)
class Calibration:
    """Second moments and channel orders of one network.

    Attributes:
        moments: consumer -> G, ``float32 (inputs, inputs)``; of a grouped convolution one for
            each of its groups, ``(groups, inputs, inputs)``; of a linear layer that reads a wide
            flattened map one for each place of the map, ``(places, 1, channels, channels)``.
        statistics: batch-norm layer -> mean and variance of its input over the calibration images,
            ``float32 (2, channels)``.
        orders: per channel group, its channels from most to least important, ``int64 (size,)``.
        errors: per channel group, the share of the output energy of the consumers that is lost when
            the first k channels of the order are kept, ``float32 (size + 1,)`` from 1 (k = 0) to 0.
    """

    moments: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    orders: tuple[np.ndarray, ...]
    errors: tuple[np.ndarray, ...]


@outside_contexts
def calibrate(network: nn.Module, table: LayerTable, images: torch.Tensor) -> Calibration:
    """Measure ``network`` on normalized images (N, C, H, W).

    Raises:
        UserError: a layer reads too many inputs, or its inputs are NaN or infinite.
    """
    moments = _second_moments(network, table, images)
    ranked = [_rank(network, table, index, moments) for index in range(len(table.groups))]
    return Calibration(
        {name: moment.float().numpy() for name, moment in moments.items()},
        batch_statistics(network, table, images),
        tuple(order for order, _ in ranked),
        tuple(error for _, error in ranked),
    )


@torch.inference_mode()
def _second_moments(
    network: nn.Module, table: LayerTable, images: torch.Tensor
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

    def record(name: str):
        def hook(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            if isinstance(module, nn.Linear):
                x = inputs[0].flatten(0, -2).T
                if len(x) > MAX_INPUTS:
                    x = x.unflatten(0, (-1, places[name])).transpose(0, 1)[:, None]
            else:
                x = inputs[0].transpose(0, 1).flatten(1)
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                x = x.unflatten(0, (module.groups, -1))
            moments[name] = moments.get(name, 0) + (x @ x.mT).double()

        return hook

    handles = [
        network.get_submodule(name).register_forward_pre_hook(record(name))
        for name in table.consumers
    ]
    try:
        for batch in images.split(128):
            network(batch)
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
    network: nn.Module, table: LayerTable, images: torch.Tensor
) -> dict[str, np.ndarray]:
    """Return mean and variance of the input of every batch-norm, ``float32 (2, channels)`` each.

    All batch-norms normalize by the statistics of ``images`` in this forward pass, which runs in
    the precision that candidates are scored in. The network is not changed.
    """
    modules = running_modules(network)
    norms = {
        layer.name: cast(BatchNorm, modules[layer.name])
        for layer in table.layers
        if layer.kind == "batch_norm" and layer.name in modules  # else in a skipped block
    }
    before = {name: (norm.momentum, norm.training, norm._buffers) for name, norm in norms.items()}
    try:
        for norm in norms.values():
            norm._buffers = copy.deepcopy(norm._buffers)
            norm.training, norm.momentum = True, 1.0
        with fast_forward():
            network(images)
        return {
            name: torch.stack([norm.get_buffer(key) for key in ("running_mean", "running_var")])
            .float()
            .numpy()
            for name, norm in norms.items()
        }
    finally:
        for name, norm in norms.items():
            norm.momentum, norm.training, norm._buffers = before[name]


def _rank(
    network: nn.Module, table: LayerTable, index: int, moments: dict[str, torch.Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the greedy order of the channels of a group, and the error curve."""
    group, of_heads, pairs = table.groups[index], table.is_of_heads(index), []
    for member in group.members:
        if member.dim == "in":
            at = torch.from_numpy(member.positions)
            weight = network.get_submodule(member.module).get_parameter("weight").detach().double()
            # A channel that stands at m positions (a flattened map) is the sum of m parts.
            for rows, columns, moment in blocks(weight, moments[member.module]):
                # A head goes as a whole.
                for column in at.flatten()[None] if of_heads else at.T:
                    where = _within(columns, column)
                    if where is not None:
                        flat = rows.index_select(1, where).transpose(0, 1).flatten(1)
                        pairs.append((flat @ flat.T, moment[where][:, where]))
    return greedy_heads(pairs, group.size) if of_heads else greedy_order(pairs)


def blocks(
    weight: torch.Tensor, moments: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield a layer's weights in blocks that have second moments.

    A block is (weights, the indices of their inputs, second moments of those): for each group of a
    convolution its rows, for each place of a wide flattened map its columns, else all of them.
    """
    inputs = torch.arange(weight.shape[1])
    if moments.ndim == 4:
        for place, moment in enumerate(moments[:, 0]):
            at = inputs[place :: len(moments)].contiguous()
            yield weight[:, at], at, moment
        return
    each = moments if moments.ndim == 3 else moments[None]
    for rows, moment in zip(weight.chunk(len(each)), each, strict=True):
        yield rows, inputs, moment


def _within(columns: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor | None:
    """Return where ``chosen`` stand in ``columns`` (ascending); None where they do not."""
    where = torch.searchsorted(columns, chosen.contiguous()).clamp_max(len(columns) - 1)
    return where if bool((columns[where] == chosen).all()) else None


def greedy_order(
    pairs: list[tuple[torch.Tensor, torch.Tensor]],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the greedy order and error curve for pairs (M, G), one per consumer.

    Shapes: M, G ``(C, C)`` -> order ``int64 (C,)``, errors ``float32 (C + 1,)`` with errors[0] = 1.
    """
    size = len(pairs[0][1])
    schur = [moment + 1e-6 * moment.diagonal().mean() * torch.eye(size) for _, moment in pairs]
    # Transposed, so that it is read in the order in which it lies in memory.
    product = [(weights @ s).T.contiguous() for (weights, _), s in zip(pairs, schur, strict=True)]
    total = sum(float(p.diagonal().sum()) for p in product)
    left = torch.ones(size, dtype=torch.bool)
    order, errors = [], [total]
    while left.any():
        gain = torch.stack(
            [
                (s * p).sum(1) / s.diagonal().clamp_min(1e-12 * total)
                for s, p in zip(schur, product, strict=True)
            ]
        ).sum(0)
        if errors[-1] <= 0:  # the rest is rounding error, or adds nothing
            rest = torch.where(left, gain, -torch.inf).argsort(descending=True)[: int(left.sum())]
            order += rest.tolist()
            errors += [0.0] * len(rest)
            break
        best = int(torch.where(left, gain, -torch.inf).argmax())
        left[best] = False
        order.append(best)
        errors.append(max(errors[-1] - float(gain[best]), 0.0))
        for (weights, _), s, p in zip(pairs, schur, product, strict=True):
            column = s[:, best] / s[best, best].clamp_min(1e-12 * total).sqrt()
            p.addr_(column, weights @ column, alpha=-1)
            s.addr_(column, column, alpha=-1)
    errors[-1] = 0.0
    return np.array(order), np.array(errors, dtype=np.float32) / max(total, 1e-12)
