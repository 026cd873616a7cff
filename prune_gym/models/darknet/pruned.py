"""Describe a pruned network as a cfg: fewer filters, and skipped blocks left out."""

from collections.abc import Callable, Iterable, Sequence

from torch import nn

from prune_gym.models.darknet.cfg import Section
from prune_gym.models.darknet.network import IMAGES, Darknet, layer_name

LINEAR = (None, "linear")  # activations of a shortcut that can be left out


def pruned_sections(candidate: nn.Module, original: Darknet) -> tuple[Section, ...]:
    """Return the sections of a pruned ``candidate`` of ``original``, ``[net]`` first.

    Where a layer no longer stands behind the one it reads, a ``[route]`` goes between them.

    Raises:
        UserError: the activation of a skipped block would be lost.
    """
    layers = original.sections[1:]
    modules = dict(candidate.named_modules())
    convs = {
        index: modules.get(f"{layer_name(index, section)}.conv")
        for index, section in enumerate(layers)
        if section.kind == "convolutional"
    }
    skipped = _skipped(original, {index for index, conv in convs.items() if conv is not None})

    def read_by(index: int) -> list[int]:
        return [_after_skips(source, skipped) for source in original.sources[index]]

    heads = [index for index, section in enumerate(layers) if section.kind == "yolo"]
    present = [index for index, conv in convs.items() if conv is not None]
    kept = [original.sections[0]]
    number = {IMAGES: IMAGES}  # of each original layer that is kept, its new one
    for index in sorted(_needed([*heads, *present], read_by)):
        section, sources = layers[index], [number[source] for source in read_by(index)]
        if section.kind != "route" and sources[0] != len(kept) - 2:
            kept.append(Section("route", 0, {"layers": str(sources[0])}))
        kept.append(_changed(section, sources, convs.get(index)))
        number[index] = len(kept) - 2
    return tuple(kept)


def _skipped(original: Darknet, present: set[int]) -> dict[int, int]:
    """Return the additions of skipped blocks, each with the layer that stands for it.

    ``present`` are the convolutions that are left. A block is skipped where its branch had
    convolutions and none is left.
    """
    skipped = {}
    for index, section in enumerate(original.sections[1:]):
        if section.kind != "shortcut":
            continue
        start, end = sorted(_origin(original, source) for source in original.sources[index])
        convs = {
            layer
            for layer in _branch(original, start, end)
            if original.sections[layer + 1].kind == "convolutional"
        }
        if convs and not convs & present:
            if section.options.get("activation") not in LINEAR:
                raise section.wrong("its block is skipped and its activation would be lost")
            skipped[index] = start
    return skipped


def _origin(original: Darknet, layer: int) -> int:
    """Return the layer whose output ``layer`` hands on unchanged, itself if it computes."""
    while layer != IMAGES and _hands_on(original.sections[layer + 1], original.sources[layer]):
        (layer,) = original.sources[layer]
    return layer


def _hands_on(section: Section, sources: Sequence[int]) -> bool:
    one_route = section.kind == "route" and len(sources) == 1 and section.whole("groups", 1) == 1
    return one_route or section.kind in ("dropout", "yolo")


def _branch(original: Darknet, start: int, end: int) -> set[int]:
    """Return the layers that ``end`` is computed from, itself included, as far back as start."""
    found: set[int] = set()
    waiting = [end]
    while waiting:
        layer = waiting.pop()
        if layer not in (start, IMAGES) and layer not in found:
            found.add(layer)
            waiting.extend(original.sources[layer])
    return found


def _after_skips(layer: int, skipped: dict[int, int]) -> int:
    while layer in skipped:
        layer = skipped[layer]
    return layer


def _needed(layers: Iterable[int], read_by: Callable[[int], list[int]]) -> set[int]:
    """Return ``layers`` and everything that they are computed from."""
    found: set[int] = set()
    waiting = list(layers)
    while waiting:
        layer = waiting.pop()
        if layer != IMAGES and layer not in found:
            found.add(layer)
            waiting.extend(read_by(layer))
    return found


def _changed(section: Section, sources: list[int], conv: nn.Module | None) -> Section:
    if isinstance(conv, nn.Conv2d):
        grouped = conv.groups > 1 or "groups" in section.options
        groups = {"groups": conv.groups} if grouped else {}
        return section.changed(filters=conv.out_channels, **groups)
    if section.kind == "route":
        return section.changed(layers=",".join(map(str, sources)))
    if section.kind == "shortcut":
        return section.changed(**{"from": sources[1]})
    return section
