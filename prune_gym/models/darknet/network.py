"""Detectors of Darknet's family (YOLOv3, YOLOv3-tiny, Yolo-Fastest, ...), built from their cfg.

YOLOv3 is Redmon and Farhadi 2018 (arXiv:1804.02767). A layer keeps its number in the cfg as its
name: ``conv12`` is layer 12 and holds ``conv``, ``norm`` and ``activation``. The output is one raw
map per ``[yolo]`` section; :mod:`prune_gym.detection.boxes` turns them into boxes.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from prune_gym.errors import unknown
from prune_gym.models.darknet.cfg import Section

BATCH_NORM_EPS = 1e-5
# In-place, as a batch-norm's output is read by its activation alone.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky": lambda: nn.LeakyReLU(0.1, inplace=True),
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "mish": lambda: nn.Mish(inplace=True),
    "swish": lambda: nn.SiLU(inplace=True),
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
}
IMAGES = -1  # the number that stands for the network's input among layers


@dataclass(frozen=True)
class Head:
    """What a ``[yolo]`` section says of the raw map it reads.

    Attributes:
        anchors: width and height in pixels of the network's input, one pair per box of a cell.
        classes: number of classes.
        scale_xy: how far a box's centre may leave its cell (1: not at all).
    """

    anchors: tuple[tuple[float, float], ...]
    classes: int
    scale_xy: float = 1.0


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
        self.input_shape = (net.whole("channels", 3), net.whole("height"), net.whole("width"))
        self.heads = tuple(_head(section) for section in layers if section.kind == "yolo")
        self.sources = tuple(_sources(section, index) for index, section in enumerate(layers))
        if not self.heads:
            raise net.wrong("this cfg has no [yolo] section; only detectors are supported")
        self._last_use = {s: index for index, each in enumerate(self.sources) for s in each}
        channels = {IMAGES: self.input_shape[0]}
        for index, section in enumerate(layers):
            inputs = [channels[source] for source in self.sources[index]]
            channels[index] = _outputs(section, inputs)
            module = _MAKERS[section.kind](section, inputs[0])
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
            x = torch.cat(inputs, dim=1) if len(inputs) > 1 else x
            if (groups := section.whole("groups", 1)) > 1:
                x = x.chunk(groups, 1)[section.whole("group_id", 0)]
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


def _outputs(section: Section, inputs: list[int]) -> int:
    if section.kind == "convolutional":
        return section.whole("filters", 1)
    if section.kind == "route":
        groups = section.whole("groups", 1)
        if sum(inputs) % groups or not 0 <= section.whole("group_id", 0) < groups:
            raise section.wrong(f"{sum(inputs)} channels have no such part of {groups} groups")
        return sum(inputs) // groups
    if section.kind == "shortcut" and len(set(inputs)) > 1:
        raise section.wrong(f"adds layers of {inputs[0]} and {inputs[1]} channels")
    if section.kind == "yolo":
        head = _head(section)
        expected = len(head.anchors) * (5 + head.classes)
        if inputs != [expected]:
            raise section.wrong(f"needs {expected} channels before it, got {inputs[0]}")
    return inputs[0]


def _head(section: Section) -> Head:
    numbers = [float(part) for part in section.options.get("anchors", "").split(",") if part]
    pairs = list(zip(numbers[::2], numbers[1::2], strict=False))
    mask = section.wholes("mask") if "mask" in section.options else range(len(pairs))
    if not pairs or not all(0 <= each < len(pairs) for each in mask):
        raise section.wrong(f"mask {tuple(mask)} does not fit its {len(pairs)} anchors")
    anchors = tuple(pairs[each] for each in mask)
    return Head(anchors, section.whole("classes", 20), section.real("scale_x_y", 1.0))


def _convolutional(section: Section, inputs: int) -> nn.Module:
    size, filters, groups = (section.whole(key, 1) for key in ("size", "filters", "groups"))
    if inputs % groups or filters % groups:
        raise section.wrong(f"groups={groups} does not divide {inputs} inputs, {filters} filters")
    padding = size // 2 if section.whole("pad", 0) else section.whole("padding", 0)
    norm = bool(section.whole("batch_normalize", 0))
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    stride = section.whole("stride", 1)
    parts["conv"] = nn.Conv2d(inputs, filters, size, stride, padding, groups=groups, bias=not norm)
    if norm:
        parts["norm"] = nn.BatchNorm2d(filters, eps=BATCH_NORM_EPS)
    if (activation := _activation(section, "logistic")) is not None:
        parts["activation"] = activation
    return nn.Sequential(parts)


def _activation(section: Section, default: str) -> nn.Module | None:
    name = section.options.get("activation", default)
    if name == "linear":
        return None
    if name not in ACTIVATIONS:
        raise section.wrong(unknown("activation", name, ["linear", *ACTIVATIONS]))
    return ACTIVATIONS[name]()


def _maxpool(section: Section, _: int) -> nn.Module:
    """Return Darknet's pool: ``padding`` cells of minus infinity, the smaller half before."""
    stride = section.whole("stride", 1)
    size = section.whole("size", stride)
    padding = section.whole("padding", size - 1)
    before, after = padding // 2, padding - padding // 2
    if before == after:
        return nn.MaxPool2d(size, stride, before)
    if stride == 2:  # the same windows, without a padded copy
        return nn.MaxPool2d(size, stride, before, ceil_mode=True)
    pad = nn.ConstantPad2d((before, after, before, after), -torch.inf)
    return nn.Sequential(OrderedDict(pad=pad, pool=nn.MaxPool2d(size, stride)))


_MAKERS: dict[str, Callable[[Section, int], nn.Module | None]] = {
    "convolutional": _convolutional,
    "maxpool": _maxpool,
    "shortcut": lambda section, _: _activation(section, "linear"),
    "route": lambda section, _: None,
    "yolo": lambda section, _: None,
    "upsample": lambda section, _: nn.Upsample(scale_factor=section.whole("stride", 2)),
    "avgpool": lambda section, _: nn.AdaptiveAvgPool2d(1),
    "dropout": lambda section, _: None,  # does nothing at inference, and would hide a sum's terms
}
