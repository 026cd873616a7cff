"""Turn the sections of a cfg into layers: what each computes, and the shape of its output."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from prune_gym.errors import unknown
from prune_gym.models.darknet.cfg import MAX_NUMBER, Section

BATCH_NORM_EPS = 1e-5
MAX_WEIGHTS = 2**29  # of one convolution: 2 GiB
MAX_OUTPUTS = 2**28  # of one layer for one image: 1 GiB
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
Shape = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True)
class Head:
    """What a ``[yolo]`` section says of the raw map it reads.

    Attributes:
        anchors: width and height in pixels of the network's input, one pair per box of a cell.
        classes: number of classes.
        scale_xy: how far a box's center may leave its cell (1: not at all).
    """

    anchors: tuple[tuple[float, float], ...]
    classes: int
    scale_xy: float = 1.0


def make_layer(section: Section, inputs: Sequence[Shape]) -> tuple[nn.Module | None, Shape]:
    """Return the module of a layer, None where it has none, and the shape of its output.

    Raises:
        UserError: an option is wrong, or the inputs do not fit; names the line.
    """
    module, shape = _MAKERS[section.kind](section, inputs)
    if shape[0] > MAX_NUMBER or shape[0] * shape[1] * shape[2] > MAX_OUTPUTS:
        raise section.wrong(f"writes {shape[0]:,}x{shape[1]:,}x{shape[2]:,} numbers: too many")
    return module, shape


def head_of(section: Section) -> Head:
    """Return the head that a ``[yolo]`` section describes.

    Raises:
        UserError: its anchors are no pairs of positive numbers, or the mask does not fit them.
    """
    numbers = section.reals("anchors") if "anchors" in section.options else ()
    if len(numbers) % 2 or not all(0 < number < float("inf") for number in numbers):
        raise section.wrong(f"anchors= must be pairs of positive numbers, got {numbers}")
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    mask = section.wholes("mask") if "mask" in section.options else range(len(pairs))
    if not mask or not all(0 <= each < len(pairs) for each in mask):
        raise section.wrong(f"mask {tuple(mask)} does not fit its {len(pairs)} anchors")
    anchors = tuple(pairs[each] for each in mask)
    return Head(anchors, section.count("classes", 20), section.real("scale_x_y", 1.0))


def _convolutional(section: Section, inputs: Sequence[Shape]) -> tuple[nn.Module, Shape]:
    channels, *sides = inputs[0]
    size, filters, groups = (section.count(key, 1) for key in ("size", "filters", "groups"))
    if channels % groups or filters % groups:
        raise section.wrong(f"groups={groups} does not divide {channels} inputs, {filters} filters")
    if channels // groups * filters * size * size > MAX_WEIGHTS:
        raise section.wrong(f"has {channels // groups}x{filters}x{size}x{size} weights: too many")
    padding = size // 2 if section.whole("pad", 0) else section.count("padding", 0, least=0)
    stride = _stride(section)
    norm = bool(section.whole("batch_normalize", 0) or section.whole("cbn", 0))
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    shape = _windowed(section, filters, sides, size, 2 * padding, stride)
    parts["conv"] = nn.Conv2d(
        channels, filters, size, stride, padding, groups=groups, bias=not norm
    )
    if norm:
        parts["norm"] = nn.BatchNorm2d(filters, eps=BATCH_NORM_EPS)
    if (activation := _activation(section, "logistic")) is not None:
        parts["activation"] = activation
    return nn.Sequential(parts), shape


def _stride(section: Section) -> tuple[int, int]:
    """Return the step along the height and along the width."""
    both = section.count("stride", 1)
    # Darknet's convolutions take what is below 1 for absent.
    down, right = (section.whole(key, both) for key in ("stride_y", "stride_x"))
    if section.kind == "convolutional":
        down, right = (each if each > 0 else both for each in (down, right))
    if not (0 < down <= MAX_NUMBER and 0 < right <= MAX_NUMBER):
        raise section.wrong(f"stride_y={down} and stride_x={right} must be 1 or more")
    return down, right


def _windowed(
    section: Section,
    channels: int,
    sides: Sequence[int],
    size: int,
    padding: int,
    stride: tuple[int, int],
) -> Shape:
    """Return the shape of what windows of ``size`` over padded ``sides`` write."""
    height, width = (
        (side + padding - size) // step + 1 for side, step in zip(sides, stride, strict=True)
    )
    if height < 1 or width < 1:
        raise section.wrong(f"its windows of {size} do not fit a map of {sides[0]}x{sides[1]}")
    return channels, height, width


def _activation(section: Section, default: str) -> nn.Module | None:
    name = section.options.get("activation", default)
    if name == "linear":
        return None
    if name not in ACTIVATIONS:
        raise section.wrong(unknown("activation", name, ["linear", *ACTIVATIONS]))
    return ACTIVATIONS[name]()


def _maxpool(section: Section, inputs: Sequence[Shape]) -> tuple[nn.Module, Shape]:
    """Return Darknet's pool: ``padding`` cells of minus infinity, the smaller half before."""
    channels, *sides = inputs[0]
    stride = _stride(section)
    step = stride[0] if stride[0] == stride[1] else stride
    size = section.count("size", section.count("stride", 1))
    padding = section.count("padding", size - 1, least=0)
    before, after = padding // 2, padding - padding // 2
    if after >= size:
        raise section.wrong(f"padding={padding} leaves windows of {size} without a pixel")
    shape = _windowed(section, channels, sides, size, padding, stride)
    if before <= size // 2:
        if before == after:
            return nn.MaxPool2d(size, step, before), shape
        if step == 2:  # the same windows, without a padded copy
            return nn.MaxPool2d(size, step, before, ceil_mode=True), shape
    pad = nn.ConstantPad2d((before, after, before, after), -torch.inf)
    return nn.Sequential(OrderedDict(pad=pad, pool=nn.MaxPool2d(size, step))), shape


def _shortcut(section: Section, inputs: Sequence[Shape]) -> tuple[nn.Module | None, Shape]:
    if len({shape[0] for shape in inputs}) > 1:
        raise section.wrong(f"adds layers of {inputs[0][0]} and {inputs[1][0]} channels")
    _same_sides(section, inputs)
    return _activation(section, "linear"), inputs[0]


def _route(section: Section, inputs: Sequence[Shape]) -> tuple[None, Shape]:
    """Return the shape: of every input the same one of ``groups`` parts, side by side."""
    groups = section.count("groups", 1)
    channels = [shape[0] for shape in inputs]
    if any(each % groups for each in channels) or not 0 <= section.whole("group_id", 0) < groups:
        raise section.wrong(
            f"{' and '.join(map(str, channels))} channels have no such part of {groups} groups"
        )
    _same_sides(section, inputs)
    return None, (sum(channels) // groups, *inputs[0][1:])


def _same_sides(section: Section, inputs: Sequence[Shape]) -> None:
    sides = [shape[1:] for shape in inputs]
    if len(set(sides)) > 1:
        raise section.wrong(
            "reads maps of different sizes: "
            + " and ".join(f"{height}x{width}" for height, width in sides)
        )


def _yolo(section: Section, inputs: Sequence[Shape]) -> tuple[None, Shape]:
    head = head_of(section)
    expected = len(head.anchors) * (5 + head.classes)
    if inputs[0][0] != expected:
        raise section.wrong(f"needs {expected} channels before it, got {inputs[0][0]}")
    return None, inputs[0]


def _upsample(section: Section, inputs: Sequence[Shape]) -> tuple[nn.Module, Shape]:
    factor = section.count("stride", 2)
    channels, height, width = inputs[0]
    return nn.Upsample(scale_factor=factor), (channels, factor * height, factor * width)


def _avgpool(_: Section, inputs: Sequence[Shape]) -> tuple[nn.Module, Shape]:
    return nn.AdaptiveAvgPool2d(1), (inputs[0][0], 1, 1)


def _dropout(_: Section, inputs: Sequence[Shape]) -> tuple[None, Shape]:
    return None, inputs[0]  # does nothing at inference, and would hide a sum's terms


_MAKERS: dict[str, Callable[[Section, Sequence[Shape]], tuple[nn.Module | None, Shape]]] = {
    "convolutional": _convolutional,
    "maxpool": _maxpool,
    "shortcut": _shortcut,
    "route": _route,
    "yolo": _yolo,
    "upsample": _upsample,
    "avgpool": _avgpool,
    "dropout": _dropout,
}
