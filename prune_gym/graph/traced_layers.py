"""The layers that the tracer meets, each with the units that it reads and writes."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import fx, nn

from prune_gym.graph.groups import NO_UNIT
from prune_gym.graph.layers import Affine, Kind, Layer, Product
from prune_gym.graph.units import NotUnderstood, Traced, Units

_NOTHING = Affine(0, ())  # channels are counted when the groups are known
_HAVE_NO_MODULE = ("pool", "attention")


class TracedLayers:
    """Layers in the order of the forward pass; every parameter of the network belongs to one.

    Attributes:
        entries: each layer, the units that it reads (None: none of its own) and that it writes.
        names: operations that are layers, or that read parameters of one, each with its name.
        calls: how often each layer is called in a way that is understood.
        again: layers that are also called, or read, in a way that is left alone.
        whole: modules that must stay whole, each with the reason.
    """

    def __init__(self, graph: fx.GraphModule, whole: Mapping[str, str], units: Units) -> None:
        """Start empty, for the modules of ``graph``; layers that must be alike merge ``units``."""
        self.entries: list[tuple[Layer, np.ndarray | None, np.ndarray]] = []
        self.names: dict[fx.Node, str] = {}
        self.calls: Counter[str] = Counter()
        self.again: set[str] = set()
        self.whole = whole
        self._graph, self._units = graph, units
        self._counted: set[int] = set()  # parameters

    def add(
        self,
        node: fx.Node,
        name: str,
        kind: Kind,
        source: Traced,
        out_size: tuple[int, ...],
        units: np.ndarray,
        params_per_channel: int,
        kernel: tuple[int, ...] = (1, 1),
        stride: int = 1,
        groups: int = 1,
        follows: str = "",
        products: tuple[Product, ...] = (),
    ) -> None:
        """Add a layer; ``units`` are what it writes, ``products`` what attention multiplies.

        The calls of one that is called several times count as one, with a higher map, and the
        channels of all of them are one.

        Raises:
            NotUnderstood: it must stay whole, or another call of it is not understood.
        """
        if kind != "pool" or node.op == "call_module":
            self.names[node] = name
        reads = source.units if kind in ("conv", "linear") else None
        layer = Layer(
            name,
            kind,
            kernel,
            stride,
            source.size,
            out_size,
            params_per_channel,
            inputs=_NOTHING,
            outputs=_NOTHING,
            follows=follows,
            groups=groups,
            products=products,
        )
        if kind not in _HAVE_NO_MODULE:
            self.check_whole(name)
            self.calls[name] += 1
            if self.calls[name] > 1:
                self._call_again(layer, reads, units)
                return
            own = dict(self._graph.get_submodule(name).named_parameters(recurse=False))
            self._counted.update(map(id, own.values()))
            read_before = {f"{name}.{each}" for each in own}  # by something else, and counted then
            self.entries = [each for each in self.entries if each[0].name not in read_before]
        self.entries.append((layer, reads, units))

    def _call_again(self, call: Layer, reads: np.ndarray | None, writes: np.ndarray) -> None:
        at = next(at for at, (layer, *_) in enumerate(self.entries) if layer.name == call.name)
        layer, read_before, written_before = self.entries[at]
        if layer.kind != call.kind or len(writes) != len(written_before):
            raise NotUnderstood("a module that is called in two ways")
        if reads is not None and read_before is not None:
            self._units.merge(read_before, reads, call.name)
        self._units.merge(written_before, writes, call.name)
        layer = replace(
            layer,
            in_size=_joined(layer.in_size, call.in_size),
            out_size=_joined(layer.out_size, call.out_size),
            follows=call.follows if call.follows == layer.follows else "",
        )
        self.entries[at] = layer, read_before, written_before

    def add_parameter(
        self, node: fx.Node, name: str, weights: torch.Tensor, axis: int
    ) -> np.ndarray:
        """Add a parameter outside of layers; return new units for its channels along ``axis``."""
        units = self._units.fresh(weights.shape[axis])
        each = weights.numel() // len(units)
        self._append(name, "parameter", each, units)
        self._counted.add(id(weights))
        self.names[node] = name
        return units

    def add_other(self, name: str, tensors: Iterable[torch.Tensor]) -> bool:
        """Add a layer for parameters that no layer has yet; return whether there are any."""
        new = {
            id(each): each.numel()
            for each in tensors
            if isinstance(each, nn.Parameter) and id(each) not in self._counted
        }
        if not new or name in {layer.name for layer, *_ in self.entries}:
            return False
        self._counted.update(new)
        self._append(name, "other", 1, np.full(sum(new.values()), NO_UNIT))
        return True

    def _append(self, name: str, kind: Kind, params_per_channel: int, units: np.ndarray) -> None:
        one = (1, 1)
        layer = Layer(name, kind, one, 1, one, one, params_per_channel, _NOTHING, _NOTHING)
        self.entries.append((layer, None, units))

    def is_counted(self, weights: torch.Tensor) -> bool:
        """Return whether a parameter belongs to a layer already."""
        return id(weights) in self._counted

    def check_whole(self, name: str) -> None:
        """Refuse a layer that must stay whole.

        Raises:
            NotUnderstood: it must, or a call of it before was not understood.
        """
        if name in self.whole:
            raise NotUnderstood(self.whole[name])
        whole = (layer.name for layer, *_ in self.entries if layer.kind == "other")
        if any(f"{name}.".startswith(f"{each}.") for each in whole):
            raise NotUnderstood("a module whose other call is left alone")

    def pin_calls(self, name: str, why: str) -> None:
        """Pin what the calls of a module, and of those in it, touch that were understood."""
        for layer, *_ in self.entries:
            if f"{layer.name}.".startswith(f"{name}.") and layer.kind not in _HAVE_NO_MODULE:
                self.pin(layer.name, name, why)

    def pin(self, name: str, by: str, why: str) -> None:
        """Pin what a layer reads and writes."""
        self.again.add(name)
        for layer, reads, writes in self.entries:
            if layer.name == name:
                for units in (reads, writes):
                    if units is not None:
                        self._units.pin(units, by, why)

    def is_folded(self, layer: Layer) -> bool:
        """Return whether every call of a norm follows every call of the layer before it."""
        alone = {layer.name, layer.follows}.isdisjoint(self.again)
        return alone and self.calls[layer.name] == self.calls[layer.follows]


def _joined(size: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """Return the size of a map that lies on top of another one; of other widths, in one column."""
    if size[1:] == other[1:]:
        return (size[0] + other[0], *size[1:])
    return (math.prod(size) + math.prod(other), *(1,) * (len(size) - 1))
