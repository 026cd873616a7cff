"""MobileNetV2 (Sandler et al. 2018), for 224x224 and for 32x32 images; torchvision's keys."""

import torch
from torch import nn

# Expansion factor, output channels, blocks and first stride of each stage (table 2 of the paper).
STAGES = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)


class InvertedResidual(nn.Module):
    """Expand by 1x1, convolve depthwise by 3x3, project by 1x1; a shortcut where shapes allow."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int) -> None:
        """Map ``channels`` to ``width`` channels, ``stride`` times smaller."""
        super().__init__()
        hidden = channels * expansion
        expand = [_conv(channels, hidden, 1)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *expand,
            _conv(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut = stride == 1 and channels == width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output (N, width, H / stride, W / stride)."""
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """A 3x3 convolution, 17 inverted residual blocks, a 1x1 convolution and a linear layer."""

    def __init__(self, num_classes: int, strides: tuple[int, int]) -> None:
        """Build the layers; ``strides`` are those of the first convolution and of stage 2."""
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 32, 3, strides[0])]
        channels = 32
        for stage, (expansion, width, count, first) in enumerate(STAGES):
            for index in range(count):
                stride = 1 if index else strides[1] if stage == 1 else first
                layers.append(InvertedResidual(channels, width, stride, expansion))
                channels = width
        layers.append(_conv(channels, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalized images (N, 3, H, W) to logits (N, classes)."""
        return self.classifier(self.features(images).mean((2, 3)))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


def mobilenet_v2(num_classes: int = 10) -> MobileNetV2:
    """Return MobileNetV2 for 32x32 images: 88 M multiply-adds and 2.24 M parameters.

    The first convolution and stage 2 have stride 1 and not 2; the last maps have 4x4 pixels.
    """
    return MobileNetV2(num_classes, strides=(1, 1))


def mobilenet_v2_imagenet(num_classes: int = 1000) -> MobileNetV2:
    """Return MobileNetV2 for 224x224 images: 300 M multiply-adds and 3.50 M parameters."""
    return MobileNetV2(num_classes, strides=(2, 2))
