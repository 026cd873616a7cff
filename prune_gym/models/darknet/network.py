"""Build detectors of Darknet's family (YOLOv3, YOLOv3-tiny, Yolo-Fastest, ...) from their cfg.

YOLOv3 is Redmon and Farhadi 2018 (arXiv:1804.02767). A layer keeps its number in the cfg as its
name: ``conv12`` is layer 12 and holds ``conv``, ``norm`` and ``activation``. The output is one raw
map per ``[yolo]`` section; `prune_gym.detection.boxes` turns them into boxes.
"""

from collections.abc import Sequence

import torch
from torch import nn

from prune_gym.models.darknet.cfg import Section
from prune_gym.models.darknet.layers import Head, Shape, head_of, make_layer

__all__ = ["IMAGES", "Darknet", "Head", "layer_name"]

IMAGES = -1  # the number that stands for the network's input among layers


class Darknet(nn.Module):
    """A network as a cfg describes it.

    Attributes:
        sections: the cfg, ``[net]`` first.
        heads: one per output map, in the order of the cfg.
        input_shape: (C, H, W) that ``[net]`` gives.
    """

    def __init__(self, sections: Sequence[Section]) -> None:
        """Build the layers with fresh weights.

        Raises:
            UserError: a layer reads one that does not exist or does not fit; names the line.
        """
        super().__init__()
        net, layers = sections[0], sections[1:]
        self.sections = tuple(sections)
        self.input_shape = (net.count("channels", 3), net.count("height"), net.count("width"))
        self.heads = tuple(head_of(section) for section in layers if section.kind == "yolo")
        self.sources = tuple(_sources(section, index) for index, section in enumerate(layers))
        if not self.heads:
            raise net.wrong("this cfg has no [yolo] section; only detectors are supported")
        self._last_use = {s: index for index, each in enumerate(self.sources) for s in each}
        shapes: dict[int, Shape] = {IMAGES: self.input_shape}
        for index, section in enumerate(layers):
            inputs = [shapes[source] for source in self.sources[index]]
            module, shapes[index] = make_layer(section, inputs)
            if module is not None:
                self.add_module(layer_name(index, section), module)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map images (N, 3, H, W), pixels in [0, 1], to one raw map per head.

        A map is (N, anchors * (5 + classes), h, w).
        """
        values, outputs = {IMAGES: images}, []
        for index, section in enumerate(self.sections[1:]):
            inputs = [values[source] for source in self.sources[index]]
            values[index] = self._layer(index, section, inputs)
            if section.kind == "yolo":
                outputs.append(values[index])
            for source in self.sources[index]:
                if self._last_use[source] == index:  # its memory can be used again
                    values.pop(source, None)
        return tuple(outputs)

    def _layer(self, index: int, section: Section, inputs: list[torch.Tensor]) -> torch.Tensor:
        x = inputs[0]
        if section.kind == "shortcut":
            x = inputs[0] + inputs[1]
        elif section.kind == "route":
            if (groups := section.whole("groups", 1)) > 1:
                inputs = [each.chunk(groups, 1)[section.whole("group_id", 0)] for each in inputs]
            x = torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0]
        name = layer_name(index, section)
        return self.get_submodule(name)(x) if name in self._modules else x


def layer_name(index: int, section: Section) -> str:
    """Return the name of layer ``index``, ``conv12`` for example."""
    return f"{section.kind.removesuffix('olutional')}{index}"


def _sources(section: Section, index: int) -> tuple[int, ...]:
    """Return the numbers of the layers that layer ``index`` reads; the layer before is first."""
    if section.kind not in ("route", "shortcut"):
        return (index - 1,)
    given = section.wholes("layers" if section.kind == "route" else "from")
    found = tuple(index + layer if layer < 0 else layer for layer in given)
    if not found or not all(0 <= layer < index for layer in found):
        raise section.wrong(f"reads layers {given}, but stands as layer {index}")
    if section.kind == "shortcut" and len(found) > 1:
        raise section.wrong(f"adds {len(found) + 1} layers; only two are supported")
    return found if section.kind == "route" else (index - 1, *found)
