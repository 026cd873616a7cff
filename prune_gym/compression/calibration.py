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

from prune_gym._utils.device import fast_forward, outside_contexts, to_channels_last
from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.rank_heads import greedy_heads
from prune_gym.costs.flops import Flops
from prune_gym.errors import UserError
from prune_gym.graph.inputs import Tensors, feed
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.layer_types import BatchNorm, Convolution
from prune_gym.graph.skipped import running_modules

VERSION = 6  # of what is measured here; another number has everything measured again
IMAGES, LEAST_IMAGES = 512, 128
MULTIPLY_ADDS = 192e9  # in a pass over the images; a network that costs more sees fewer of them
PIXELS_PER_CHANNEL, PIXELS_PER_MAP = 64, 16  # enough for the moments of such a network
MAX_INPUTS = 8_192  # a matrix of this size takes half a gigabyte
BATCH, LARGE_BATCH = 128, 32
STEPS = 64  # channels that are chosen before the Schur complement is updated


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

    A network that multiplies more than `MULTIPLY_ADDS` on `IMAGES` images is measured in bfloat16
    where that is fast, and on some pixels of each map, or some tokens, evenly spaced: at least
    `PIXELS_PER_MAP`, and in all images `PIXELS_PER_CHANNEL` for each channel of a layer. `every`
    says how many images are enough.

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
    large = _is_large(table)
    size = LARGE_BATCH if large else BATCH
    if large:
        network = to_channels_last(fold_batch_norm(copy.deepcopy(network), table))

    def record(name: str):
        def hook(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            x, linear = inputs[0], isinstance(module, nn.Linear)
            step = _step(x, -1 if linear else 1, math.ceil(len(images) / size)) if large else 1
            if linear:
                x = x.flatten(0, -2)[::step].T
                if len(x) > MAX_INPUTS:
                    x = x.unflatten(0, (-1, places[name])).transpose(0, 1)[:, None]
            else:
                x = x.flatten(2)[:, :, ::step].transpose(0, 1).flatten(1)
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
        with fast_forward(images.device) if large else nullcontext():
            for batch in images.split(size):
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


def _is_large(table: LayerTable) -> bool:
    return IMAGES * Flops(table)(table.configuration())[0] > MULTIPLY_ADDS


def _step(x: torch.Tensor, axis: int, batches: int) -> int:
    """Return 1 to take all pixels, or tokens, of a batch, 2 to take every second one, and so on."""
    channels = x.shape[axis]
    places = x[0].numel() // channels
    most = len(x) * places * batches // channels // PIXELS_PER_CHANNEL
    enough = max(min(most, places // PIXELS_PER_MAP), 1)
    # Without a common divisor, so that no column of a map is left out.
    return next(each for each in range(enough, 0, -1) if math.gcd(each, places) == 1)


def every(table: LayerTable, images: int) -> int:
    """Return 1 where a network is measured on all images, 2 on every second one, and so on.

    They are so few that the network multiplies no more than `MULTIPLY_ADDS`, but `LEAST_IMAGES`.
    """
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

    With the Schur complement S and the energies E = S M S, a channel j that is chosen lowers the
    error by ``g = E_jj / S_jj``. With its columns ``c = S_j / sqrt(S_jj)`` and ``d = E_j /
    sqrt(S_jj) - g c / 2``, S becomes ``S - c c^T`` and E becomes ``E - c d^T - d c^T``. Both are
    updated every `STEPS` channels; in between, columns and diagonals are computed as they are
    needed. E is computed again from S where rounding could be seen in it.

    Shapes: M, G ``(C, C)`` -> order ``int64 (C,)``, errors ``float32 (C + 1,)`` with errors[0] = 1.
    """
    weights, schur = (torch.stack(each) for each in zip(*pairs, strict=True))
    diagonals = schur.diagonal(dim1=1, dim2=2)
    diagonals += 1e-6 * diagonals.mean(1, keepdim=True)
    total = float((weights * schur).sum())
    floor, recompute_at = max(1e-12 * total, 1e-30), math.inf  # no 0 / 0 where nothing is read
    order: list[int] = []
    errors = [total]
    taken = np.zeros(schur.shape[1])  # -inf for channels that are chosen
    while len(order) < len(taken):
        if errors[-1] < recompute_at:
            energies, recompute_at = schur @ weights @ schur, errors[-1] / 100
        # NumPy calls a function of short vectors in a tenth of PyTorch's time.
        s, e = schur.numpy(), energies.numpy()
        scales, shares = (each.diagonal(axis1=1, axis2=2).copy() for each in (s, e))
        both = schur.new_zeros(2, len(schur), min(STEPS, len(taken) - len(order)), len(taken))
        columns, changes = both.numpy()
        for step in range(columns.shape[1]):
            gains = shares / np.maximum(scales, floor)
            gain = gains.sum(0) + taken
            if errors[-1] <= 0:  # the rest is rounding error, or adds nothing
                rest = gain.argsort()[::-1][: len(taken) - len(order)]
                order += rest.tolist()
                errors += [0.0] * len(rest)
                break
            best = int(gain.argmax())
            taken[best] = -np.inf
            order.append(best)
            errors.append(max(errors[-1] - float(gain[best]), 0.0))
            c, d = columns[:, :step], changes[:, :step]
            c_best, d_best = c[:, None, :, best], d[:, None, :, best]
            root = np.sqrt(np.maximum(scales[:, best, None], floor))
            column = (s[:, best] - (c_best @ c)[:, 0]) / root
            change = (e[:, best] - (c_best @ d + d_best @ c)[:, 0]) / root
            change -= gains[:, best, None] / 2 * column
            columns[:, step], changes[:, step] = column, change
            scales -= column**2
            shares = np.maximum(shares - 2 * column * change, 0)
        chosen, changed = both
        schur.baddbmm_(chosen.mT, chosen, alpha=-1)
        energies.baddbmm_(chosen.mT, changed, alpha=-1).baddbmm_(changed.mT, chosen, alpha=-1)
    errors[-1] = 0.0
    return np.array(order), np.array(errors, dtype=np.float32) / max(total, 1e-12)
