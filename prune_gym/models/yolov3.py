"""YOLOv3 and YOLOv3-tiny (Redmon and Farhadi 2018, arXiv:1804.02767) at any width.

They are made as Darknet cfgs, so that what is built here and what is read from a file are one.
"""

from collections.abc import Sequence

import torch

from prune_gym.models.darknet.cfg import parse_cfg
from prune_gym.models.darknet.network import Darknet

Anchors = Sequence[tuple[int, int]]
# Width and height for COCO at 416x416, from yolov3.cfg and yolov3-tiny.cfg.
ANCHORS: Anchors = (
    *((10, 13), (16, 30), (33, 23), (30, 61), (62, 45)),
    *((59, 119), (116, 90), (156, 198), (373, 326)),
)
TINY_ANCHORS: Anchors = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))
# For the digits in digit_scenes at 128x128: nine clusters of their logarithms.
SCENE_ANCHORS: Anchors = (
    *((14, 23), (17, 26), (21, 29), (20, 35), (26, 35)),
    *((25, 44), (32, 41), (31, 49), (39, 50)),
)
BACKGROUND = -4.6  # logit of 1 %
STAGES = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))  # channels, residual blocks


class _Writer:
    """Collects sections; ``width`` scales all channels but those of the heads."""

    def __init__(self, classes: int, width: float, size: int, anchors: Anchors) -> None:
        self.sections = [f"[net]\nwidth={size}\nheight={size}\nchannels=3"]
        self.classes, self.width = classes, width
        self.anchors = anchors

    def conv(self, channels: int, size: int, stride: int = 1) -> None:
        filters = max(round(self.width * channels), 1)
        self.add(
            f"[convolutional]\nbatch_normalize=1\nfilters={filters}\nsize={size}\n"
            f"stride={stride}\npad=1\nactivation=leaky"
        )

    def head(self, mask: tuple[int, ...]) -> None:
        filters = len(mask) * (5 + self.classes)
        anchors = ", ".join(f"{w},{h}" for w, h in self.anchors)
        self.add(f"[convolutional]\nsize=1\nstride=1\npad=1\nfilters={filters}\nactivation=linear")
        self.add(
            f"[yolo]\nmask={','.join(map(str, mask))}\nanchors={anchors}\n"
            f"classes={self.classes}\nnum={len(self.anchors)}"
        )

    def residual(self, channels: int) -> None:
        self.conv(channels // 2, 1)
        self.conv(channels, 3)
        self.add("[shortcut]\nfrom=-3\nactivation=linear")

    def finer(self, channels: int, layer: int) -> None:
        """Go back before the last head, and up to the map of an earlier layer."""
        self.add("[route]\nlayers=-4")
        self.conv(channels, 1)
        self.add("[upsample]\nstride=2")
        self.add(f"[route]\nlayers=-1,{layer}")

    def add(self, section: str) -> None:
        self.sections.append(section)

    @property
    def last(self) -> int:
        """The number of the last layer; [net] is none."""
        return len(self.sections) - 2

    def text(self) -> str:
        return "\n\n".join(self.sections) + "\n"


def yolov3_cfg(
    classes: int, width: float = 1.0, size: int = 416, anchors: Anchors = ANCHORS
) -> str:
    """Return YOLOv3's cfg: Darknet-53 with 23 residual blocks, and three heads.

    Args:
        classes: number of classes.
        width: share of the channels of every convolution but the heads'.
        size: height and width of the input in pixels, a multiple of 32.
        anchors: nine boxes (width, height) in pixels, from small to large.
    """
    cfg = _Writer(classes, width, size, anchors)
    cfg.conv(32, 3)
    ends = []
    for channels, blocks in STAGES:
        cfg.conv(channels, 3, stride=2)
        for _ in range(blocks):
            cfg.residual(channels)
        ends.append(cfg.last)
    for scale, channels in enumerate((512, 256, 128)):
        if scale:
            cfg.finer(channels, ends[-1 - scale])
        for _ in range(3):
            cfg.conv(channels, 1)
            cfg.conv(2 * channels, 3)
        cfg.head((6 - 3 * scale, 7 - 3 * scale, 8 - 3 * scale))
    return cfg.text()


def yolov3_tiny_cfg(
    classes: int, width: float = 1.0, size: int = 416, anchors: Anchors = TINY_ANCHORS
) -> str:
    """Return YOLOv3-tiny's cfg; arguments as for `yolov3_cfg`, with six anchors."""
    cfg = _Writer(classes, width, size, anchors)
    for channels in (16, 32, 64, 128, 256):
        cfg.conv(channels, 3)
        before_pool = cfg.last
        cfg.add("[maxpool]\nsize=2\nstride=2")
    cfg.conv(512, 3)
    cfg.add("[maxpool]\nsize=2\nstride=1")
    for channels, kernel in ((1024, 3), (256, 1), (512, 3)):
        cfg.conv(channels, kernel)
    cfg.head((3, 4, 5))
    cfg.finer(128, before_pool)
    cfg.conv(256, 3)
    cfg.head((0, 1, 2))
    return cfg.text()


def yolov3(
    classes: int, width: float = 1.0, size: int = 416, anchors: Anchors = ANCHORS
) -> Darknet:
    """Return YOLOv3 with fresh weights; arguments as for `yolov3_cfg`.

    At full width and 416x416 pixels: 62 M parameters and 33 G multiply-adds.
    """
    return _fresh(yolov3_cfg(classes, width, size, anchors), "yolov3")


def yolov3_tiny(
    classes: int, width: float = 1.0, size: int = 416, anchors: Anchors = TINY_ANCHORS
) -> Darknet:
    """Return YOLOv3-tiny with fresh weights; arguments as for `yolov3_tiny_cfg`."""
    return _fresh(yolov3_tiny_cfg(classes, width, size, anchors), "yolov3-tiny")


def yolov3_eighth(classes: int = 10) -> Darknet:
    """Return YOLOv3 with an eighth of the channels, for 128x128 pixels and the digit scenes.

    It has 1.0 M parameters and 50 M multiply-adds.
    """
    return yolov3(classes, 1 / 8, 128, SCENE_ANCHORS)


def _fresh(cfg: str, name: str) -> Darknet:
    with torch.random.fork_rng(devices=[]):
        network = Darknet(parse_cfg(cfg, name))
    for index, section in enumerate(network.sections[1:]):
        if section.kind == "yolo":  # nearly all boxes are background: training starts from there
            bias = network.get_submodule(f"conv{index - 1}.conv").get_parameter("bias")
            with torch.no_grad():
                bias.view(-1, 5 + section.whole("classes"))[:, 4] = BACKGROUND
    return network
