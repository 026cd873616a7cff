"""Repair a cut network without retraining.

``merge`` approximates the removed input channels of every consumer by a linear mix of the kept
ones, ``B = G_KK^-1 G_KR``, and folds the mix into the weights, ``W_K += W_R B^T``, without data.
``batch_norm`` estimates the running statistics on calibration images. A few hundred images give
slightly wrong statistics. The error is known for the original network and is subtracted for the
candidate (a control variate), so a network that loses no channel does not change.
``least_squares`` merges and then fits layer after layer
(`prune_gym.compression.least_squares`).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from prune_gym._utils.device import outside_contexts
from prune_gym.compression.calibration import batch_statistics, blocks
from prune_gym.compression.least_squares import fit
from prune_gym.compression.original import Original
from prune_gym.compression.surgery import as_index, cut, kept_positions
from prune_gym.errors import UserError, unknown
from prune_gym.graph.layers import Block
from prune_gym.graph.residual_blocks import skip_blocks, without_blocks
from prune_gym.graph.symbolic import symbolic_trace

REPAIRS = ("none", "batch_norm", "merge", "merge+batch_norm", "least_squares")
RIDGE = 1e-3  # of the mean diagonal


def check_repair(repair: str) -> None:
    """Raise ``UserError`` where ``repair`` is not in `REPAIRS`."""
    if repair not in REPAIRS:
        raise UserError(unknown("repair", repair, REPAIRS))


@outside_contexts
def cut_and_repair(
    original: Original,
    kept: Sequence[np.ndarray],
    repair: str,
    *,
    skipped: Sequence[Block] = (),
    sparsify: Callable[[nn.Module], object] | None = None,
) -> nn.Module:
    """Return the smaller network, repaired as ``repair`` says (one of `REPAIRS`).

    Args:
        original: the original network; it is not changed.
        kept: per channel group, the sorted indices of the kept channels.
        repair: one of `REPAIRS`.
        skipped: the residual blocks that are left out.
        sparsify: function that sets weights of the repaired candidate to zero, in place.
    """
    network, table = original.network, original.table
    candidate = cut(network, table, kept)
    if repair.startswith("merge") or repair == "least_squares":
        merge(original, candidate, kept)
    candidate = skip_blocks(candidate, skipped, table.input_shape)
    if repair == "least_squares":
        reference, ready = original.reference, candidate
        if table.attributes or any(map(_has_numbers, reference.operations.graph.nodes)):
            # Numbers of channels that stand in the original's graph are too large.
            ready = symbolic_trace(candidate, table.input_shape)
            graph = ready.graph
        else:
            graph = without_blocks(reference.operations, skipped).graph
        fit(network, ready, graph, table, kept, reference, original.images)
    if sparsify is not None:
        sparsify(candidate)
    if repair.endswith("batch_norm") or (repair == "least_squares" and sparsify is not None):
        reestimate_batch_norm(original, candidate, kept)
    return candidate


def _has_numbers(node: fx.Node) -> bool:
    """Return whether numbers stand in a node: a normalized shape, or a tensor of the forward."""
    made = node.op == "get_attr" and str(node.target).startswith("_tensor_constant")
    return made or node.target is F.layer_norm


@torch.no_grad()
def merge(original: Original, candidate: nn.Module, kept: Sequence[np.ndarray]) -> None:
    """Fold the removed channels of the original into the consumers of ``candidate``, in place."""
    network, table = original.network, original.table
    positions = kept_positions(network, table, kept)
    for name in table.consumers:
        weight, moments = (
            network.get_submodule(name).get_parameter("weight"),
            original.moments[name],
        )
        removed = np.ones(weight.shape[1], dtype=bool)
        removed[positions[name, "in"]] = False
        if not removed.any():
            continue
        parts = []
        for rows, columns, moment in blocks(weight, moments):
            keep, gone = (as_index(mask, weight) for mask in (~removed[columns], removed[columns]))
            mix = _mix(moment, keep, gone)
            part = torch.tensordot(mix, rows[:, gone].float(), dims=([1], [1]))
            parts.append(part.transpose(0, 1))
        # Places of a flattened map stand side by side, groups of a convolution one below another.
        lost = torch.stack(parts, 2).flatten(1) if moments.ndim == 4 else torch.cat(parts)
        if (name, "out") in positions:
            lost = lost.index_select(0, as_index(positions[name, "out"], lost))
        candidate.get_submodule(name).get_parameter("weight").add_(lost)


def _mix(moment: torch.Tensor, keep: torch.Tensor, removed: torch.Tensor) -> torch.Tensor:
    """Solve for B^T, (kept, removed), with a ridge of 1e-3 of the mean diagonal."""
    inner = moment[keep][:, keep].clone()
    inner.diagonal().add_(RIDGE * moment.diagonal().mean() + 1e-12)  # never singular
    return torch.cholesky_solve(moment[keep][:, removed], torch.linalg.cholesky(inner))


@torch.no_grad()
def reestimate_batch_norm(
    original: Original, candidate: nn.Module, kept: Sequence[np.ndarray]
) -> None:
    """Set the running statistics of ``candidate`` from one pass over the images, in place."""
    network, table = original.network, original.table
    positions = kept_positions(network, table, kept)
    for name, (mean, variance) in batch_statistics(candidate, table, original.images).items():
        norm, before = candidate.get_submodule(name), network.get_submodule(name)
        keep = as_index(positions.get((name, "out"), np.arange(len(mean))), mean)
        there = original.statistics[name].index_select(1, keep)
        norm.running_mean = mean + before.get_buffer("running_mean")[keep] - there[0]
        ratio = before.get_buffer("running_var")[keep] / there[1].clamp_min(1e-12)
        norm.running_var = variance * ratio
