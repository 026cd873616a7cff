"""List public weights: which files, where from, and how their networks were trained.

A file is loaded only where its SHA-256 is right. Of MobileNetV2's and DeiT's files only the first
eight digits are published, in their names. ``module.`` before a key is what training on several
GPUs leaves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pooch
import torch
from torch import nn

from prune_gym._utils.paths import cache_home, data_home, writable_home
from prune_gym.errors import MissingFileError, UserError
from prune_gym.models.weights_file import fill

AKAMASTER = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/"
CHENYAOFO = "https://github.com/chenyaofo/pytorch-cifar-models/releases/download/mobilenetv2/"
TORCHVISION = "https://download.pytorch.org/models/"
DEIT = "https://dl.fbaipublicfiles.com/deit/"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class PublicWeights:
    """A file of public weights.

    Attributes:
        file: its name.
        source: the address of the folder it is in.
        sha256: its SHA-256, or the start of it where no more is known.
        mean: per channel, that the network's training images were normalized by.
        std: per channel, likewise.
    """

    file: str
    source: str
    sha256: str
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


PUBLIC: Mapping[tuple[str, str], PublicWeights] = {
    ("resnet20_public", "cifar10"): PublicWeights(
        "resnet20-12fca82f.th",
        AKAMASTER,
        "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8",
    ),
    ("resnet32", "cifar10"): PublicWeights(
        "resnet32-d509ac18.th",
        AKAMASTER,
        "d509ac1820d7f25398913559d7e81a13229b1e7adc5648e3bfa5e22dc137f850",
    ),
    ("resnet56", "cifar10"): PublicWeights(
        "resnet56-4bfd9763.th",
        AKAMASTER,
        "4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367",
    ),
    ("resnet110", "cifar10"): PublicWeights(
        "resnet110-1d1ed7c2.th",
        AKAMASTER,
        "1d1ed7c27571399c1fef66969bc4df68d6a92c8e6c41170f444e120e5354e3bc",
    ),
    ("mobilenet_v2", "cifar10"): PublicWeights(
        "cifar10_mobilenetv2_x1_0-fe6a5b48.pt",
        CHENYAOFO,
        "fe6a5b48",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
    ),
    ("resnet18", "imagenet"): PublicWeights(
        "resnet18-f37072fd.pth",
        TORCHVISION,
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    ),
    ("resnet50", "imagenet"): PublicWeights(
        "resnet50-0676ba61.pth",
        TORCHVISION,
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    ),
    ("mobilenet_v2_imagenet", "imagenet"): PublicWeights(
        "mobilenet_v2-b0353104.pth", TORCHVISION, "b0353104"
    ),
    ("deit_tiny", "imagenet"): PublicWeights(
        "deit_tiny_patch16_224-a1311bcf.pth", DEIT, "a1311bcf"
    ),
}


def on_disk(weights: PublicWeights) -> Path | None:
    """Return the file in the data home or in the user's cache, None where it is in neither."""
    paths = (base / "weights" / weights.file for base in (data_home(), cache_home()))
    return next((path for path in paths if path.is_file()), None)


def find(weights: PublicWeights) -> Path:
    """Return the file, found in the data home or the user's cache, else downloaded.

    Raises:
        MissingFileError: neither on disk nor to be downloaded; says how to get it offline.
        UserError: its SHA-256 is not the published one.
    """
    path = on_disk(weights) or _download(weights, writable_home() / "weights")
    digest = pooch.file_hash(str(path))
    if not digest.startswith(weights.sha256):
        raise UserError(
            f"{path}: expected the SHA-256 {weights.sha256}, got {digest}; the file is damaged or "
            f"not the published one: delete it and fetch {weights.source}{weights.file} again"
        )
    return path


def _download(weights: PublicWeights, folder: Path) -> Path:
    url = weights.source + weights.file
    try:
        return Path(pooch.retrieve(url, None, weights.file, folder, progressbar=True))
    except Exception as error:  # every way a download fails ends in the same advice
        home = data_home() / "weights" / weights.file
        raise MissingFileError(
            f"{weights.file} is not in {home.parent} and could not be downloaded "
            f"({type(error).__name__}). Offline: get {url} on another machine and put it there, or "
            f"set PRUNE_GYM_HOME to the folder that holds weights/{weights.file}"
        ) from None


def load_public(network: nn.Module, weights: PublicWeights) -> None:
    """Fill ``network`` with public weights.

    Raises:
        MissingFileError: neither on disk nor to be downloaded.
        UserError: the file is not the published one, or belongs to a different network.
    """
    path = find(weights)
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = content.get("state_dict", content.get("model", content))
    fill(network, {key.removeprefix("module."): value for key, value in state.items()}, path)
