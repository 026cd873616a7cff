"""Darknet's `.weights` files: read into a network, and a pruned network written back.

A file is a header (three int32 of the format's version and the number of images seen, 32 or 64 bit)
and float32 numbers: per convolution its biases, or batch-norm's shifts, scales, means and
variances, and then its weights.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from prune_gym._utils.paths import write_atomically
from prune_gym.errors import MissingFileError, UserError
from prune_gym.models.darknet.cfg import Section, read_cfg, write_cfg
from prune_gym.models.darknet.network import IMAGES, Darknet, layer_name

VERSION = (0, 2, 5)  # what Darknet itself writes
NORM = ("bias", "weight", "running_mean", "running_var")
LINEAR = (None, "linear")  # activations of a shortcut that can be left out


def load_darknet(cfg: str | Path, weights: str | Path) -> Darknet:
    """Return the network of a cfg file with the weights of a weights file, in eval mode.

    Raises:
        MissingFileError: one of the files is missing.
        UserError: the cfg is not understood, or the weights are not of this cfg.
    """
    network = Darknet(read_cfg(cfg))
    load_weights(network, weights)
    return network.eval()


@torch.no_grad()
def load_weights(network: Darknet, path: str | Path) -> None:
    """Fill ``network`` in place with the numbers in a weights file.

    Raises:
        MissingFileError: no such file.
        UserError: the file holds more or fewer numbers than the network, or not finite ones.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such Darknet weights file")
    values = _numbers(path)
    tensors = list(_tensors(network))
    expected = sum(tensor.numel() for tensor in tensors)
    if len(values) != expected:
        raise UserError(
            f"{path}: expected {expected:,} numbers for this cfg, got {len(values):,}; the weights "
            "are of another cfg, or the file is cut off"
        )
    if not np.isfinite(values).all():
        raise UserError(f"{path}: holds NaN or infinite numbers; fetch it again")
    parts = torch.from_numpy(values).split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def _numbers(path: Path) -> np.ndarray:
    raw = path.read_bytes()
    if len(raw) < 16:
        raise UserError(f"{path}: {len(raw)} bytes are no Darknet weights file")
    major, minor, _ = np.frombuffer(raw, "<i4", 3)
    long = 10 * int(major) + int(minor) >= 2 and major < 1000 and minor < 1000
    body = raw[20 if long else 16 :]
    if len(body) % 4:
        raise UserError(f"{path}: the file is cut off in the middle of a number")
    return np.frombuffer(body, "<f4").astype(np.float32)


def _tensors(network: nn.Module) -> Iterator[torch.Tensor]:
    """Give every tensor of the network's layers in the order of a weights file."""
    layers = sorted(
        (int(name.removeprefix("conv")), module)
        for name, module in network.named_children()
        if name.startswith("conv")
    )
    for _, module in layers:
        conv, norm = module.get_submodule("conv"), getattr(module, "norm", None)
        if isinstance(norm, nn.BatchNorm2d):
            yield from (getattr(norm, key) for key in NORM)
        else:
            yield conv.get_parameter("bias")
        yield conv.get_parameter("weight")


def save_darknet(candidate: nn.Module, original: Darknet, path: Path) -> None:
    """Write a pruned ``candidate`` of ``original`` as ``path`` (.cfg) and its .weights beside it.

    Layers of skipped blocks are left out and the numbers of the others follow. The candidate's
    batch-norms must not have been folded.
    """
    path = Path(path)
    sections = _pruned(candidate, original)
    header = np.array(VERSION, "<i4").tobytes() + np.zeros(1, "<u8").tobytes()
    numbers = b"".join(t.detach().numpy().astype("<f4").tobytes() for t in _tensors(candidate))
    write_atomically(path.with_suffix(".weights"), header + numbers)
    write_atomically(path.with_suffix(".cfg"), write_cfg(sections).encode())


def _pruned(candidate: nn.Module, original: Darknet) -> tuple[Section, ...]:
    """Return the cfg of a candidate: new numbers of filters, without the skipped layers."""
    modules = dict(candidate.named_modules())
    kept = [original.sections[0]]
    number = {IMAGES: IMAGES}  # of each original layer, what stands for it now
    gone = False  # the layer before belongs to a skipped branch
    for index, section in enumerate(original.sections[1:]):
        conv = modules.get(f"{layer_name(index, section)}.conv")
        starts = section.kind in ("convolutional", "route")
        gone = (section.kind == "convolutional" and conv is None) or (gone and not starts)
        if gone:
            if section.kind == "shortcut" and section.options.get("activation") not in LINEAR:
                raise section.wrong("its block is skipped and its activation would be lost")
            number[index] = number[index - 1]
            gone = section.kind != "shortcut"  # the addition ends the branch
            continue
        kept.append(_renumbered(section, original.sources[index], number, conv))
        number[index] = len(kept) - 2
    return tuple(kept)


def _renumbered(
    section: Section, sources: tuple[int, ...], number: dict[int, int], conv: nn.Module | None
) -> Section:
    if isinstance(conv, nn.Conv2d):
        groups = {"groups": conv.groups} if conv.groups > 1 else {}
        return section.changed(filters=conv.out_channels, **groups)
    if section.kind == "route":
        return section.changed(layers=",".join(str(number[each]) for each in sources))
    if section.kind == "shortcut":
        return section.changed(**{"from": number[sources[1]]})
    return section
