"""Make the layer table of what the tracer found.

Units that occur in the same places form a channel group; every tensor is counted in groups.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from torch import fx

from prune_gym.graph.attributes import Key, keys_in
from prune_gym.graph.groups import NO_UNIT, group_units, places_of_units
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.layers import Activation, Affine, Attribute, Block, Layer, Pin
from prune_gym.graph.residual_blocks import find_blocks
from prune_gym.graph.tracer import Tracer


def assemble(tracer: Tracer) -> LayerTable:
    """Return the layer table of a network that the tracer has run through."""
    _pin_layers_whose_weights_others_read(tracer)
    _pin_attributes_used_elsewhere(tracer)
    _pin_parameters_that_no_layer_writes_to(tracer)
    _count_what_never_runs(tracer)
    roots, entries = tracer.units.roots(), tracer.layers.entries
    places = places_of_units(entries, tracer.pads, roots)
    pinned = np.concatenate([np.empty(0, int), *(units for units, *_ in tracer.units.pins)])
    groups, group_of = group_units(places, set(roots[pinned].tolist()), len(roots))

    def count(units: np.ndarray) -> Affine:
        found = np.bincount(group_of[roots[units]], minlength=len(groups) + 1)
        # Units of no group stand last: the network's inputs and outputs.
        shares = [int(n) // g.size for n, g in zip(found, groups, strict=False)]
        return Affine(int(found[-1]), tuple(shares))

    one = Affine(1, (0,) * len(groups))
    layers = tuple(
        replace(
            layer,
            inputs=one if reads is None else count(reads),
            outputs=count(units),
            follows=layer.follows if tracer.layers.is_folded(layer) else "",
        )
        for layer, reads, units in entries
    )
    activations = tuple(
        Activation(
            count(buffer.units),
            buffer.pixels,
            buffer.live_from,
            buffer.live_until,
            tuple(sorted(buffer.readers)),
            buffer.parts,
            buffer.layer,
        )
        for buffer in tracer.buffers
    )
    attributes = [
        Attribute(key.module, key.name, count(units))
        for key, (units, _) in tracer.attributes.items()
    ]
    return LayerTable(
        layers,
        groups,
        activations,
        _blocks(tracer, layers),
        pins=tuple(_pins(tracer, roots)),
        uncounted=tuple(tracer.uncounted.items()),
        attributes=tuple(each for each in attributes if any(each.channels.per_group)),
        parameters=tuple((name, each.axis) for name, each in tracer.loose_parameters.items()),
    )


def _pin_layers_whose_weights_others_read(tracer: Tracer) -> None:
    """Pin a layer whose weights an operation is given that is not that layer."""
    known = {layer.name for layer, *_ in tracer.layers.entries}
    for node in tracer.graph.nodes:
        if node.op == "get_attr" and node.users:
            owner = str(node.target).rpartition(".")[0]
            readers = {tracer.layers.names.get(user) for user in node.users}
            if owner in known and owner not in readers:
                tracer.layers.pin(owner, owner, "its weights are read elsewhere too")


def _pin_attributes_used_elsewhere(tracer: Tracer) -> None:
    """Pin channels whose number is an attribute that the code uses for something else too."""
    readers: dict[Key, list[fx.Node]] = {}
    for node in tracer.graph.nodes:
        for key in keys_in(node.meta.get("numbers")):
            readers.setdefault(key, []).append(node)
    for key, (units, nodes) in tracer.attributes.items():
        if key in tracer.computed or len(readers[key]) > len(nodes):
            why = "the code uses this number for something else too"
            tracer.units.pin(units, f"{key.module}.{key.name}".strip("."), why)


def _pin_parameters_that_no_layer_writes_to(tracer: Tracer) -> None:
    """Pin what a parameter alone gives to the layers: no layer would stand for the group."""
    roots, entries = tracer.units.roots(), tracer.layers.entries
    written = [roots[units] for layer, _, units in entries if layer.has_weight]
    for name, tensor in tracer.loose_parameters.items():
        alone = ~np.isin(roots[tensor.units], np.concatenate([np.empty(0, int), *written]))
        tracer.units.pin(tensor.units[alone], name, "no layer writes these channels")


def _count_what_never_runs(tracer: Tracer) -> None:
    """Add the parameters of modules that eval mode does not use, such as auxiliary heads."""
    for name, module in tracer.network.named_modules():
        tracer.layers.add_other(name, module.parameters(recurse=False))


def _blocks(tracer: Tracer, layers: tuple[Layer, ...]) -> tuple[Block, ...]:
    """Return the residual blocks, without those of which a layer is called several times."""
    found, holders = tracer.layers, {node: each.buffer for node, each in tracer.values.items()}
    once = {node: name for node, name in found.names.items() if name not in found.again}
    several = {name for name, count in found.calls.items() if count > 1}
    blocks = find_blocks(tracer.step_of, once, layers, holders)
    return tuple(block for block in blocks if several.isdisjoint(block.layers))


def _pins(tracer: Tracer, roots: np.ndarray) -> Iterable[Pin]:
    """Yield which layers' output channels are pinned, by what, and why."""
    for layer, _, writes in tracer.layers.entries:
        if not layer.has_weight:
            continue
        left = roots[writes[writes != NO_UNIT]]
        for units, by, why in tracer.units.pins:
            taken = np.isin(left, roots[units])
            if taken.any():
                yield Pin(layer.name, int(taken.sum()), by, why)
                left = left[~taken]
