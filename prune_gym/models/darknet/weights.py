"""Read Darknet's `.weights` files into a network, and write a pruned network back.

A file is a header (three int32 of the format's version and the number of images seen, 32 or 64 bit)
and float32 numbers: per convolution its biases, or batch-norm's shifts, scales, means and
variances, and then its weights.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from prune_gym._utils.paths import is_file, write_atomically
from prune_gym.errors import MissingFileError, UserError
from prune_gym.graph.skipped import Skipped
from prune_gym.models.darknet.cfg import parse_cfg, read_cfg, write_cfg
from prune_gym.models.darknet.network import Darknet
from prune_gym.models.darknet.pruned import pruned_sections

VERSION = (0, 2, 5)  # what Darknet itself writes
NORM = ("bias", "weight", "running_mean", "running_var")
SAME = 1e-3  # by how much of the largest output a written network may differ


def load_darknet(cfg: str | Path, weights: str | Path) -> Darknet:
    """Return the network of a cfg file with the weights of a weights file, in eval mode.

    Raises:
        MissingFileError: one of the files is missing.
        UserError: the cfg is not understood, or the weights are not of this cfg.
    """
    with torch.random.fork_rng(devices=[]):  # fresh weights leave the caller's random state alone
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
    if not is_file(path):
        raise MissingFileError(f"{path}: no such Darknet weights file")
    values = _numbers(path)
    tensors = list(_tensors(network))
    expected = sum(tensor.numel() for tensor in tensors)
    if len(values) != expected:
        raise UserError(
            f"{path}: expected {expected:,} numbers for this cfg, got {len(values):,}; the weights "
            "belong to a different cfg, or the file is cut off"
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
        if name.startswith("conv") and not isinstance(module, Skipped)
    )
    for _, module in layers:
        conv, norm = module.get_submodule("conv"), getattr(module, "norm", None)
        if isinstance(norm, nn.BatchNorm2d):
            yield from (getattr(norm, key) for key in NORM)
        else:
            yield conv.get_parameter("bias")
        yield conv.get_parameter("weight")


@torch.inference_mode()
def save_darknet(candidate: nn.Module, original: Darknet, path: Path) -> None:
    """Write a pruned ``candidate`` of ``original`` as ``path`` (.cfg) and its .weights beside it.

    Layers of skipped blocks are left out and the numbers of the others follow. The candidate is in
    eval mode, and its batch-norms must not have been folded.

    Raises:
        UserError: no cfg says what the candidate computes.
    """
    path = Path(path)
    text = write_cfg(pruned_sections(candidate, original))
    tensors = list(_tensors(candidate))
    _check_written(text, tensors, candidate, original)
    header = np.array(VERSION, "<i4").tobytes() + np.zeros(1, "<u8").tobytes()
    numbers = b"".join(tensor.detach().numpy().astype("<f4").tobytes() for tensor in tensors)
    write_atomically(path.with_suffix(".weights"), header + numbers)
    write_atomically(path.with_suffix(".cfg"), text.encode())


def _check_written(
    text: str, tensors: Sequence[torch.Tensor], candidate: nn.Module, original: Darknet
) -> None:
    """Refuse a cfg that is not the candidate's: both must compute the same.

    Raises:
        UserError: they do not.
    """
    wrong = UserError(
        "no Darknet cfg was found that computes what this candidate does in eval mode; save it "
        "with prune_gym.compression.network_file.save_network"
    )
    try:
        with torch.random.fork_rng(devices=[]):
            written = Darknet(parse_cfg(text)).eval()
    except UserError as error:
        raise wrong from error
    places = list(_tensors(written))
    if [place.shape for place in places] != [tensor.shape for tensor in tensors]:
        raise wrong
    for place, tensor in zip(places, tensors, strict=True):
        place.copy_(tensor)
    images = torch.rand(1, *original.input_shape, generator=torch.Generator().manual_seed(0))
    for found, expected in zip(written(images), candidate(images), strict=True):
        if found.shape != expected.shape:
            raise wrong
        if not (found - expected).abs().max() <= SAME * expected.abs().max():
            raise wrong
