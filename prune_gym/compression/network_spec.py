"""What a pruned network's file says of its network: everything but the weights, and no code.

The header of the safetensors file holds it as strings. It is checked field by field when it is
read, because the file may be anybody's.
"""

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from prune_gym._utils.paths import is_file
from prune_gym.compression.quantize import QuantizedLayer
from prune_gym.errors import MissingFileError, UserError
from prune_gym.graph.configuration import Configuration
from prune_gym.graph.input_shapes import KINDS, InputShape, as_plain, from_plain

FORMAT = "prune-gym-network-2"
MOST_CLASSES, LONGEST_SIDE, MOST_CHANNELS = 100_000, 2_048, 1_000_000
MOST_BASES = 8  # a network that was pruned again and again
MOST_INPUTS = 64


@dataclass(frozen=True)
class NetworkSpec:
    """How a pruned network is rebuilt from the original architecture.

    Attributes:
        network: name of the original: one of ``prune_gym.models.NETWORKS``, or the name of the
            user's own network or of the function that returns it. The function is never called
            because a file names it.
        base: of the network that was pruned, where that one had been pruned before; else None.
        data: name of the data that it is for, "" where they have none.
        num_classes: that the original is built with.
        input_shape: (C, H, W) of an image, or the shapes of several inputs.
        widths: channels of every channel group.
        blocks: whether each residual block is kept; None: all are.
        bits: name of a quantized layer -> bits of its weights and of its inputs.
        pads: name of a module that pads channels -> what it pads on six sides; None in files of an
            earlier version.
        density: share of the weights that were kept of every layer with weights of the network
            that was pruned; None where that is not known.
    """

    network: str
    base: "NetworkSpec | None"
    data: str
    num_classes: int
    input_shape: InputShape
    widths: tuple[int, ...]
    blocks: tuple[bool, ...] | None
    bits: dict[str, tuple[int, int]]
    pads: dict[str, tuple[int, ...]] | None
    density: tuple[float, ...] | None

    def as_header(self) -> dict[str, str]:
        """Return the strings that stand in the file."""
        base = self.base.as_header() if self.base else None
        return {
            "format": FORMAT,
            "network": self.network,
            "base": json.dumps(base) if base else "",
            "data": self.data,
            "num_classes": str(self.num_classes),
            "input_shape": json.dumps(as_plain(self.input_shape)),
            "widths": json.dumps(self.widths),
            "blocks": json.dumps(self.blocks),
            "bits": json.dumps(self.bits),
            "pads": json.dumps(self.pads),
            "density": json.dumps(self.density),
        }


def network_spec(
    network: nn.Module,
    *,
    name: str,
    base: NetworkSpec | None,
    num_classes: int,
    configuration: Configuration,
    input_shape: InputShape,
    data: str,
) -> NetworkSpec:
    """Return the spec of a pruned network; arguments as of `save_network`, and the original's spec.

    The weights may be any: they are not looked at.
    """
    blocks = None if configuration.keeps_all_blocks else configuration.blocks[0].tolist()
    density = None if configuration.is_dense else configuration.density[0].tolist()
    return NetworkSpec(
        network=base.network if base else name,
        base=base,
        data=data,
        num_classes=num_classes,
        input_shape=input_shape,
        widths=tuple(int(width) for width in configuration.widths[0]),
        blocks=None if blocks is None else tuple(blocks),
        bits=_bits(network),
        pads={key: tuple(pad.padding) for key, pad in channel_pads(network).items()},
        density=None if density is None else tuple(density),
    )


def channel_pads(network: nn.Module) -> dict[str, nn.ConstantPad3d]:
    """Return the modules that pad channels, such as those on the shortcuts of a CIFAR ResNet."""
    modules = network.named_modules()
    return {name: each for name, each in modules if isinstance(each, nn.ConstantPad3d)}


def _bits(network: nn.Module) -> dict[str, tuple[int, int]]:
    return {
        name: (module.weight_bits, module.activation_bits)
        for name, module in network.named_modules()
        if isinstance(module, QuantizedLayer)
    }


def read_network_spec(path: str | Path) -> NetworkSpec:
    """Read what a pruned network's file says of its network; the weights are not read.

    Raises:
        MissingFileError: no such file.
        UserError: the file is damaged, or no pruned network.
    """
    path = Path(path)
    if not is_file(path):
        raise MissingFileError(f"{path}: no such file; `prune-gym apply` writes pruned networks")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a whole safetensors file ({error})") from None
    return _from_header(header, str(path), MOST_BASES)


def _from_header(header: Any, path: str, most_bases: int) -> NetworkSpec:
    """Check a header field by field; ``path`` is for the messages."""
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else header
        raise UserError(
            f"{path}: expected format {FORMAT!r} in the header, got {reprlib.repr(found)}"
        )
    fields = _Fields(header, path)
    base = None
    if text := fields.text("base"):
        if most_bases == 0:
            raise UserError(f"{path}: base in the header is nested too deeply")
        base = _from_header(fields.parse("base", text), path, most_bases - 1)
    blocks, bits = fields.json("blocks"), fields.json("bits")
    # Files of earlier versions lack these.
    pads = fields.json("pads") if "pads" in header else None
    density = fields.json("density") if "density" in header else None
    sides, channels = range(1, LONGEST_SIDE + 1), range(1, MOST_CHANNELS + 1)
    padding, numbers = range(MOST_CHANNELS + 1), (*range(1, 9), 32)
    shape = fields.json("input_shape")
    several = isinstance(shape, dict)
    fields.require(
        _are_input_shapes(shape) if several else _are(shape, sides) and 1 <= len(shape) <= 4,
        "input_shape",
        "the shapes of several inputs" if several else "(C, H, W) of an image",
        shape,
    )
    widths = fields.json("widths")
    fields.require(_are(widths, channels), "widths", "a number of channels per group", widths)
    fields.require(
        blocks is None or isinstance(blocks, list) and all(type(b) is bool for b in blocks),
        "blocks",
        "true or false per residual block, or null",
        blocks,
    )
    fields.require(_map(bits, numbers, 2), "bits", "two of 1 to 8 or 32 per layer", bits)
    fields.require(
        pads is None or _map(pads, padding, 6), "pads", "six numbers per padded module", pads
    )
    fields.require(_are_shares(density), "density", "a share per layer, or null", density)
    classes = fields.json("num_classes")
    fields.require(
        _are([classes], range(1, MOST_CLASSES + 1)),
        "num_classes",
        f"a whole number from 1 to {MOST_CLASSES:,}",
        classes,
    )
    return NetworkSpec(
        network=fields.text("network"),
        base=base,
        data=fields.text("data"),
        num_classes=classes,
        input_shape=from_plain(shape),
        widths=tuple(widths),
        blocks=None if blocks is None else tuple(blocks),
        bits={name: (pair[0], pair[1]) for name, pair in bits.items()},
        pads=None if pads is None else {name: tuple(each) for name, each in pads.items()},
        density=None if density is None else tuple(map(float, density)),
    )


class _Fields:
    """The fields of a header; each error names the file and the field."""

    def __init__(self, header: Mapping[str, Any], path: str) -> None:
        self._header, self._path = header, path

    def text(self, key: str) -> str:
        value = self._header.get(key, "")
        self.require(isinstance(value, str), key, "a text", value)
        return value

    def json(self, key: str) -> Any:
        if key not in self._header:
            raise UserError(f"{self._path}: the header lacks {key!r}")
        return self.parse(key, self.text(key))

    def parse(self, key: str, text: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise UserError(
                f"{self._path}: {key} in the header is not JSON: {reprlib.repr(text)}"
            ) from None

    def require(self, fits: bool, key: str, expected: str, got: Any) -> None:
        if not fits:
            raise UserError(
                f"{self._path}: {key} in the header: expected {expected}, got {reprlib.repr(got)}"
            )


def _are(value: Any, allowed: range | tuple[int, ...], count: int | None = None) -> bool:
    """Whether a value is a list of whole numbers out of ``allowed``, so many of them."""
    return (
        isinstance(value, list)
        and (count is None or len(value) == count)
        and all(type(each) is int and each in allowed for each in value)
    )


def _are_input_shapes(value: dict[str, Any]) -> bool:
    """Whether a value says of each of several inputs its shape and kind, and perhaps its name."""
    if value.keys() != {"shapes", "kinds", "names"}:
        return False
    shapes, kinds, names = (value[key] for key in ("shapes", "kinds", "names"))
    if not all(isinstance(each, list) for each in (shapes, kinds, names)):
        return False
    sides = range(1, LONGEST_SIDE + 1)
    return (
        1 <= len(shapes) == len(kinds) <= MOST_INPUTS
        and len(names) in (0, len(shapes))
        and all(_are(each, sides) and len(each) <= 4 for each in shapes)
        and all(isinstance(each, str) and each in KINDS for each in kinds)
        and all(isinstance(each, str) and each.isidentifier() for each in names)
    )


def _are_shares(value: Any) -> bool:
    """Whether a value is None or a list of numbers from 0 to 1."""
    return value is None or (
        isinstance(value, list)
        and all(type(each) in (int, float) and 0 <= each <= 1 for each in value)
    )


def _map(value: Any, allowed: range | tuple[int, ...], count: int) -> bool:
    """Whether a value is an object of such lists."""
    return isinstance(value, dict) and all(_are(each, allowed, count) for each in value.values())
