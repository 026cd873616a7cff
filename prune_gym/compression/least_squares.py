"""Repair layer by layer: fit every layer to the outputs of the original layer.

The calibration images pass once through the candidate. Before a layer runs, its weights are fitted
to the outputs Y of the original layer, given the inputs X that it receives in the candidate:
``W = W0 + (Y - W0 X) X^T (X X^T + ridge)^-1`` over all taps of the kernel, with the merged weights
W0 as the prior. So later layers compensate the errors of earlier ones (He et al. 2017,
arXiv 1707.06168, fit one layer at a time). A layer whose output is added to a shortcut also
compensates the error of the shortcut. Layers in front of the first cut do not change at all.

Batch-norm statistics are measured in the same pass and corrected by the control variate of
`prune_gym.compression.repair`.
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from prune_gym._utils.device import fast_forward
from prune_gym.compression.surgery import as_index, kept_positions
from prune_gym.graph.branches import ADDITIONS, function_name
from prune_gym.graph.inputs import Tensors, shape_of
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.layer_types import BatchNorm, Convolution, is_of_torch
from prune_gym.graph.symbolic import symbolic_trace

PIXELS_PER_MAP = 16  # sampled of every image
MAX_UNKNOWNS = 1_152  # per output channel; a larger layer keeps its merged weights
RIDGE = 1e-2  # of the mean diagonal


class Reference:
    """The outputs of the layers of the original network, at sampled pixels of the images.

    Attributes:
        operations: of the network.
        sources: operation -> the operations that it reads.
        outputs: call of a convolution or linear layer -> its outputs, ``float32 (rows, channels)``.
        shortcuts: such a call -> the tensor that is added to its (normalized) output, same shape.
        statistics: call of a batch-norm -> mean and variance of its inputs, ``float32 (2,
            channels)``.
    """

    def __init__(self, network: nn.Module, images: Tensors) -> None:
        """Run ``network`` once on normalized images (N, C, H, W), or on several inputs."""
        self.operations = symbolic_trace(network, shape_of(images))
        self.sources = {n.name: _sources(n) for n in self.operations.graph.nodes}
        self.outputs: dict[str, torch.Tensor] = {}
        self.shortcuts: dict[str, torch.Tensor] = {}
        self.statistics: dict[str, torch.Tensor] = {}
        self._images = len(images)
        with torch.no_grad(), fast_forward(images.device):
            _Recorder(self).run(*tree_leaves(images))

    def sampled(self, module: nn.Module | None, values: torch.Tensor) -> torch.Tensor:
        """Return inputs or outputs of a layer at the sampled places: float32 (rows, channels)."""
        linear = isinstance(module, nn.Linear)
        return _sampled_tokens(values, self._images) if linear else _sampled(values)


class _Recorder(fx.Interpreter):
    """Runs the original network and records its outputs in a reference."""

    def __init__(self, reference: Reference) -> None:
        super().__init__(reference.operations)
        self.reference = reference

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        module = _module(self.module, n)
        if isinstance(module, Convolution | nn.Linear):
            self.reference.outputs[n.name] = self.reference.sampled(module, result)
            other = _added(self.module, n)
            # One number for a whole map is left out: it has no value per pixel.
            if other in self.env and self.env[other].shape == result.shape:
                shortcut = self.reference.sampled(module, self.env[other])
                self.reference.shortcuts[n.name] = shortcut
        elif isinstance(module, BatchNorm):
            inputs = self.env[n.all_input_nodes[0]]
            self.reference.statistics[n.name] = _statistics(_sampled(inputs))
        return result


def fit(
    network: nn.Module,
    candidate: nn.Module,
    graph: fx.Graph,
    table: LayerTable,
    kept: Sequence[np.ndarray],
    reference: Reference,
    images: Tensors,
) -> None:
    """Fit the layers of ``candidate`` in place.

    Args:
        network: the original network.
        candidate: the cut network, with merged weights and without its skipped blocks.
        graph: the graph of the candidate; its nodes have the names of ``reference.operations``.
        table: the layer table of the original network.
        kept: per channel group, the sorted indices of the kept channels.
        reference: the outputs of ``network`` on the same images.
        images: normalized images (N, C, H, W), or several inputs.
    """
    positions = kept_positions(network, table, kept)
    fitter = _Fitter(network, candidate, graph, positions, reference)
    if fitter.changed:
        with torch.no_grad(), fast_forward(images.device):
            fitter.run(*tree_leaves(images))


class _Fitter(fx.Interpreter):
    """Runs the candidate and fits each layer before it runs."""

    def __init__(
        self,
        network: nn.Module,
        candidate: nn.Module,
        graph: fx.Graph,
        positions: dict[tuple[str, str], np.ndarray],
        reference: Reference,
    ) -> None:
        super().__init__(candidate, graph=graph)
        self.original, self.positions, self.reference = network, positions, reference
        calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
        self._again = {str(name) for name, count in calls.items() if count > 1}
        self._rows: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}  # of those, so far
        self._statistics: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self.changed: set[fx.Node] = set()
        before = -1
        while before < len(self.changed):  # again where a layer of an earlier call has changed
            before = len(self.changed)
            self.changed.update(filter(self._has_changed, self.graph.nodes))

    def run_node(self, n: fx.Node) -> Any:
        if n in self.changed:
            module, name = _module(self.module, n), str(n.target)
            if isinstance(module, Convolution | nn.Linear):
                self._fit_weights(n, name, module, self.env[n.all_input_nodes[0]])
            elif isinstance(module, BatchNorm):
                self._set_statistics(n, name, module, self.env[n.all_input_nodes[0]])
        return super().run_node(n)

    def _has_changed(self, node: fx.Node) -> bool:
        """Return whether other inputs reach an operation, or it is a layer that has been fitted."""
        if any(source in self.changed for source in node.all_input_nodes):
            return True
        calls = {(each.op, each.target) for each in self.changed if each.target in self._again}
        if (node.op, node.target) in calls:
            return True
        if _sources(node) != self.reference.sources[node.name]:
            return True
        if (keep := self.positions.get((str(node.target), "in"))) is None:
            return False
        weight = self.original.get_submodule(str(node.target)).get_parameter("weight")
        return len(keep) < weight.shape[1]

    def _fit_weights(
        self, node: fx.Node, name: str, module: Convolution | nn.Linear, inputs: torch.Tensor
    ) -> None:
        if not _can_fit(module):
            return
        taps = module.weight.movedim(1, -1)
        weight = taps.flatten(1)  # (out, taps x inputs), like the rows
        if isinstance(module, nn.Linear):
            rows = self.reference.sampled(module, inputs)
        else:
            rows = _patches(module, inputs)
        target = self._target(node, name)
        if name in self._again:  # the inputs of its later calls are not there yet
            self._rows.setdefault(name, []).append((rows, target))
            rows, target = (torch.cat(each) for each in zip(*self._rows[name], strict=True))
        error = target - F.linear(rows, weight, module.bias)
        with torch.autocast(rows.device.type, enabled=False):
            change = _ridge_regression(rows, error)
        module.weight.add_(change.reshape(taps.shape).movedim(-1, 1))

    def _target(self, node: fx.Node, name: str) -> torch.Tensor:
        """Return the outputs to fit the layer to, ``float32 (rows, outputs)``."""
        target = self._kept(name, self.reference.outputs[node.name])
        other = _added(self.module, node)
        if other not in self.env or node.name not in self.reference.shortcuts:
            return target
        here = self.reference.sampled(_module(self.module, node), self.env[other])
        missing = self._kept(name, self.reference.shortcuts[node.name]) - here
        user = next(iter(node.users))
        norm = _module(self.original, user)
        if not isinstance(norm, BatchNorm):
            return target + missing
        assert norm.running_var is not None
        scale = self._kept(str(user.target), norm.weight * torch.rsqrt(norm.running_var + norm.eps))
        # A channel whose scale is 0 cannot compensate anything.
        return target + missing * scale / (scale.square() + 4e-4)

    def _set_statistics(
        self, node: fx.Node, name: str, norm: BatchNorm, inputs: torch.Tensor
    ) -> None:
        original = self.original.get_submodule(name)
        calls = self._statistics.setdefault(name, [])
        calls.append((self.reference.statistics[node.name], _statistics(_sampled(inputs))))
        there, here = (torch.stack(each).mean(0) for each in zip(*calls, strict=True))
        there = self._kept(name, there)
        norm.running_mean = here[0] + self._kept(name, original.running_mean) - there[0]
        ratio = self._kept(name, original.running_var) / there[1].clamp_min(1e-12)
        norm.running_var = here[1] * ratio

    def _kept(self, name: str, values: Any) -> torch.Tensor:
        """Select the kept output channels of the layer, the last dimension of ``values``."""
        keep = self.positions.get((name, "out"))
        return values if keep is None else values.index_select(-1, as_index(keep, values))


def _sources(node: fx.Node) -> list[str]:
    return [source.name for source in node.all_input_nodes]


def _module(root: nn.Module, node: fx.Node) -> nn.Module | None:
    return root.get_submodule(str(node.target)) if node.op == "call_module" else None


def _added(root: nn.Module, node: fx.Node) -> fx.Node | None:
    """Return the node that is added to the output of a layer or of its batch-norm, if any."""
    user = _only_user(node)
    while user is not None and isinstance(_module(root, user), nn.Dropout | nn.Identity):
        node, user = user, _only_user(user)
    if user is not None:
        norm = _module(root, user)
        if isinstance(norm, BatchNorm) and is_of_torch(norm):  # without an activation of its own
            node, user = user, _only_user(user)
    if user is None or function_name(user) not in ADDITIONS or len(user.all_input_nodes) != 2:
        return None
    return next(source for source in user.all_input_nodes if source is not node)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _can_fit(module: Convolution | nn.Linear) -> bool:
    if module.weight[0].numel() > MAX_UNKNOWNS:
        return False
    return isinstance(module, nn.Linear) or module.groups == 1


def _pixels(count: int, size: Sequence[int], device: torch.device) -> tuple[torch.Tensor, ...]:
    """Return the image and the coordinates of the sampled pixels, each ``int64 (pixels,)``.

    They are spread evenly over the map and shifted from image to image.
    """
    pixels = math.prod(size)
    step = max(pixels // PIXELS_PER_MAP, 1)
    first = torch.arange(count, device=device)[:, None] * 7
    end = step * min(PIXELS_PER_MAP, pixels)
    flat = (first + torch.arange(0, end, step, device=device)) % pixels
    image = torch.arange(count, device=device).repeat_interleave(flat.shape[1])
    return image, *torch.unravel_index(flat.flatten(), tuple(size))


def _sampled(values: torch.Tensor) -> torch.Tensor:
    """Return a map's values at the sampled places: (N, C, ...) -> float32 (rows, C)."""
    if values.ndim > 2:
        values = values.movedim(1, -1)[_pixels(len(values), values.shape[2:], values.device)]
    return values.float()


def _sampled_tokens(values: torch.Tensor, images: int) -> torch.Tensor:
    """Return what stands at the sampled tokens of so many images: (..., C) -> float32 (rows, C).

    Which tokens are of one image does not matter here: the same are sampled everywhere.
    """
    tokens = values.flatten(0, -2)
    if len(tokens) % images == 0:
        each = len(tokens) // images
        image, token = _pixels(images, (each,), values.device)
        tokens = tokens[image * each + token]
    return tokens.float()


def _patches(module: Convolution, inputs: torch.Tensor) -> torch.Tensor:
    """Return the inputs of the sampled output pixels of the layer: (rows, taps x inputs)."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    # Also where padding is "same" or "valid": numbers for both sides of every dimension.
    padded = F.pad(inputs, module._reversed_padding_repeated_twice, mode).movedim(1, -1)
    size = padded.shape[1:-1]
    spread = [(k - 1) * d + 1 for k, d in zip(module.kernel_size, module.dilation, strict=True)]
    out = [
        (whole - over) // stride + 1
        for whole, over, stride in zip(size, spread, module.stride, strict=True)
    ]
    image, *places = _pixels(len(inputs), out, inputs.device)
    # How far apart neighbors of each dimension are in a row of all pixels.
    steps = np.array([math.prod(size[dimension + 1 :]) for dimension in range(len(size))])
    first = image * math.prod(size)
    for place, step in zip(places, (steps * module.stride).tolist(), strict=True):
        first = first + place * step
    flat = padded.reshape(-1, padded.shape[-1])
    taps = [
        flat.index_select(0, first + int(np.dot(tap, steps * module.dilation)))
        for tap in itertools.product(*map(range, module.kernel_size))
    ]
    return torch.cat(taps, 1).float()


def _ridge_regression(rows: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """Return the weights (outputs, unknowns) that fit ``error`` (rows, outputs) best."""
    gram = _lower_gram(rows)
    gram.diagonal().add_(RIDGE * gram.diagonal().mean() + 1e-12)
    return torch.cholesky_solve(rows.T @ error, torch.linalg.cholesky(gram)).T


def _lower_gram(rows: torch.Tensor) -> torch.Tensor:
    """Return the lower triangle of ``rows^T rows``; Cholesky reads no more."""
    size = rows.shape[1]
    gram, step = rows.new_zeros(size, size), size // 4 + 1
    for start in range(0, size, step):
        torch.matmul(
            rows[:, start:].T, rows[:, start : start + step], out=gram[start:, start : start + step]
        )
    return gram


def _statistics(rows: torch.Tensor) -> torch.Tensor:
    return torch.stack([rows.mean(0), rows.var(0)])
