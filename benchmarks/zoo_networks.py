"""Public networks by name, with untrained weights, and small random data for each of them."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map

from prune_gym import models as own
from prune_gym.datasets import AnyData, Data, ScoredData, ScoredSplit, Split
from prune_gym.datasets.normalize import normalize

MOST_PARAMETERS = 200e6  # of a torchvision network; timm's are the small ones of their families
SIDES = (64, 96)  # of images; else what the network is built for
TRAIN, SEARCH, TEST = 16, 8, 4  # images
WORDS, LENGTH = 1_000, 32  # ids and length of a text

TIMM = (
    *("resnet18", "resnext50_32x4d", "res2net50_14w_8s", "regnety_002", "densenet121"),
    *("efficientnet_b0", "mobilenetv3_small_050", "mobilenetv4_conv_small"),
    *("mobilenetv4_hybrid_medium", "convnext_atto", "convnextv2_atto", "repvgg_a0"),
    *("ghostnet_050", "ghostnetv2_100", "hrnet_w18_small", "dla34", "ese_vovnet19b_dw"),
    *("nfnet_l0", "nf_resnet26", "cspresnet50", "cspdarknet53", "darknet17", "mixnet_s"),
    *("mnasnet_050", "rexnet_100", "fbnetc_100", "tinynet_e", "lcnet_050", "hardcorenas_a"),
    *("xception41", "selecsls42", "skresnet18", "ecaresnet26t", "gernet_s", "poolformer_s12"),
    *("fastvit_t8", "efficientvit_b0", "mobilevit_xxs", "mobilevitv2_050", "edgenext_xx_small"),
    *("pvt_v2_b0", "convmixer_768_32", "resnest14d", "tresnet_m", "dpn68", "hgnetv2_b0"),
    *("starnet_s1", "repghostnet_050", "repvit_m0_9", "mobileone_s0", "fasternet_t0"),
    *("resnetv2_50", "seresnet18", "vgg11_bn", "inception_next_atto", "mambaout_femto"),
    *("rdnet_tiny", "shvit_s1", "nasnetalarge", "inception_v4", "inception_resnet_v2"),
    *("coatnet_pico_rw_224", "vit_tiny_patch16_224", "deit_tiny_patch16_224"),
    *("swin_tiny_patch4_window7_224", "mixer_s32_224", "gmlp_ti16_224", "efficientformer_l1"),
    *("efficientvit_m0", "levit_128s", "twins_svt_base", "cait_xxs24_224"),
    *("xcit_nano_12_p16_224", "resmlp_12_224", "mvitv2_tiny", "davit_tiny", "nest_tiny"),
    *("visformer_tiny", "tnt_s_patch16_224", "beit_base_patch16_224", "pit_ti_224"),
    *("swiftformer_xs", "crossvit_tiny_240", "botnet26t_256", "halonet26t"),
    "maxvit_pico_rw_256",
)


def every_name() -> list[str]:
    """Return the names of all networks whose package is installed, ``set:network``."""
    names = [f"sequence:{name}" for name in SEQUENCES]
    if importlib.util.find_spec("torchvision"):
        from torchvision import models

        for kind, module in (("torchvision", models), ("segmentation", models.segmentation)):
            names += [f"{kind}:{n}" for n in models.list_models(module) if not too_large(n)]
    if importlib.util.find_spec("timm"):
        names += [f"timm:{name}" for name in TIMM]
    return names


def too_large(name: str) -> bool:
    """Return whether one of torchvision's networks has too many parameters to be tried."""
    from torchvision import models

    (weights, *_) = models.get_model_weights(name)
    return weights.meta["num_params"] > MOST_PARAMETERS


def built(name: str) -> tuple[nn.Module, AnyData]:
    """Return a network in eval mode, and data whose targets are what it computes.

    Its batch-norms have the statistics of the training images, so that none is the identity.
    """
    torch.manual_seed(0)
    kind, _, model = name.rpartition(":")
    network, largest = CONSTRUCTORS[kind](model)
    rng, count = np.random.default_rng(0), TRAIN + SEARCH + TEST
    if kind == "sequence" and network.of_words:
        inputs = rng.integers(0, WORDS, (count, LENGTH))
    elif kind == "sequence":
        inputs = rng.integers(0, 256, (count, 3, 2 * LENGTH), dtype=np.uint8)
    else:
        side = next(s for s in (*SIDES, largest) if s == largest or runs(network, s))
        inputs = rng.integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    return network, data_for(network, inputs)


def of_torchvision(name: str) -> tuple[nn.Module, int]:
    """Build one of torchvision's networks; its pages say for which images."""
    from torchvision import models

    arguments = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name in models.list_models(models.segmentation):
        arguments = {"weights_backbone": None}
    return models.get_model(name, weights=None, **arguments).eval(), 224


def of_timm(name: str) -> tuple[nn.Module, int]:
    """Build one of timm's networks, which say for which images they are."""
    import timm

    network = timm.create_model(name, pretrained=False).eval()
    return network, network.default_cfg["input_size"][-1]


def of_this_package(name: str) -> tuple[nn.Module, int]:
    """Build one of the networks that this package has."""
    return own.build(name, 10).eval(), own.NETWORKS[name].input_shape[1]


class TextTransformer(nn.Module):
    """A classifier of texts out of PyTorch's own encoder layers."""

    of_words = True

    def __init__(self) -> None:
        """Make two layers of four heads."""
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, 64), nn.Embedding(LENGTH, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits of token ids, (N, L) -> (N, 4)."""
        x = self.words(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        return self.head(self.encoder(x).mean(1))


class SignalConvolutions(nn.Module):
    """A classifier of signals; an LSTM may stand after the convolutions."""

    of_words = False

    def __init__(self, recurrent: bool = False) -> None:
        """Make three convolutions."""
        super().__init__()
        widths = (3, 32, 64, 64)
        self.convolutions = nn.Sequential(
            *(
                nn.Sequential(nn.Conv1d(a, b, 5, padding=2), nn.BatchNorm1d(b), nn.ReLU())
                for a, b in zip(widths, widths[1:], strict=False)
            )
        )
        self.recurrent = nn.LSTM(64, 64, batch_first=True) if recurrent else None
        self.head = nn.Linear(64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of signals, (N, 3, L) -> (N, 4)."""
        x = self.convolutions(x)
        if self.recurrent is None:
            return self.head(x.mean(2))
        return self.head(self.recurrent(x.transpose(1, 2))[0].mean(1))


SEQUENCES: dict[str, Callable[[], nn.Module]] = {
    "text_transformer": TextTransformer,
    "signal_convolutions": SignalConvolutions,
    "signal_lstm": lambda: SignalConvolutions(recurrent=True),
}
CONSTRUCTORS: dict[str, Callable[[str], tuple[nn.Module, int]]] = {
    "": of_this_package,
    "torchvision": of_torchvision,
    "segmentation": of_torchvision,
    "timm": of_timm,
    "sequence": lambda name: (SEQUENCES[name]().eval(), 0),
}


@torch.no_grad()
def runs(network: nn.Module, side: int) -> bool:
    """Return whether a network takes images of so many pixels a side."""
    try:
        network(torch.zeros(1, 3, side, side))
    except (AssertionError, RuntimeError, ValueError):
        return False
    return True


def data_for(network: nn.Module, inputs: np.ndarray) -> AnyData:
    """Return random data; the targets are the network's classes, or else its outputs."""
    texts = inputs.ndim == 2
    normalization = ((), ()) if texts else ((0.5,) * 3, (0.25,) * 3)
    parts = np.split(inputs, [TRAIN, TRAIN + SEARCH])
    blank = [ScoredSplit(part, np.zeros(len(part))) for part in parts]
    data = ScoredData("random", *blank, *normalization, score=agreement)
    images = [normalize(part, data).contiguous() for part in parts]
    with_statistics(network, images[0])
    with torch.no_grad():
        outputs = [network(each) for each in images]
    if not isinstance(outputs[0], torch.Tensor) or outputs[0].ndim != 2:
        splits = [ScoredSplit(*pair) for pair in zip(parts, outputs, strict=True)]
        return ScoredData("random", *splits, *normalization, score=agreement)
    labels = [found.argmax(1).numpy() for found in outputs]
    splits = [Split(*pair) for pair in zip(parts, labels, strict=True)]
    return Data("random", outputs[0].shape[1], *splits, *normalization, flip=False)


def agreement(outputs: Any, targets: Any) -> float:
    """Return how well a network's outputs agree with the original's, in (0, 1]."""
    errors = tree_map(lambda x, y: (x - y).abs().mean() / y.std(), outputs, targets)
    return float(torch.stack(tree_leaves(errors)).mean().neg().exp())


@torch.no_grad()
def with_statistics(network: nn.Module, images: torch.Tensor) -> None:
    """Let no vector of parameters be constant, and give batch-norms the statistics of images."""
    for parameter in network.parameters():
        if parameter.ndim == 1 or float(parameter.abs().max()) < 1e-3:
            parameter.add_(torch.rand_like(parameter).mul_(0.2))
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.training, norm.momentum = True, 1.0
    network(images)
    for norm in norms:
        norm.training, norm.momentum = False, 0.1


def import_once() -> None:
    """Import what networks come from, so that no process has to import it again.

    torchvision cannot be imported without the operators that it wants: they are declared.
    """
    if importlib.util.find_spec("torchvision") and not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for operator in OPERATORS:
            library.define(f"{operator}(Tensor x) -> Tensor")
        KEPT.append(library)
    for package in ("torchvision", "timm", "torch_pruning"):
        if importlib.util.find_spec(package):
            importlib.import_module(package)


OPERATORS = (
    *("roi_align", "_roi_align_backward", "ps_roi_align", "_ps_roi_align_backward", "nms", "qnms"),
    *("roi_pool", "_roi_pool_backward", "ps_roi_pool", "_ps_roi_pool_backward", "qroi_align"),
    *("deform_conv2d", "_deform_conv2d_backward"),
)
KEPT: list[Any] = []  # a library that is collected takes its operators with it
