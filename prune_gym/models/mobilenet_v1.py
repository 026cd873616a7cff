"""MobileNetV1 (Howard et al. 2017), for 224x224 and for 32x32 images.

State-dict keys are those of the public PyTorch weights of AMC (He et al. 2018, mit-han-lab/amc).
"""

import torch
from torch import nn

# Output channels and stride of the 13 pairs of a depthwise and a pointwise convolution.
PAIRS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)


class MobileNetV1(nn.Module):
    """A 3x3 convolution, 13 depthwise-separable convolutions and a linear layer."""

    def __init__(self, num_classes: int, stem_stride: int) -> None:
        """Build the layers; the first convolution makes the image ``stem_stride`` times smaller."""
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, 32, 3, stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
        )
        pairs, channels = [], 32
        for width, stride in PAIRS:
            pairs.append(_separable(channels, width, stride))
            channels = width
        self.features = nn.Sequential(*pairs)
        self.classifier = nn.Sequential(nn.Linear(channels, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalized images (N, 3, H, W) to logits (N, classes)."""
        return self.classifier(self.features(self.conv1(images)).mean((2, 3)))


def _separable(channels: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


def mobilenet_v1(num_classes: int = 10) -> MobileNetV1:
    """Return MobileNetV1 for 32x32 images: 46 M multiply-adds and 3.22 M parameters.

    The first convolution has stride 1 and not 2; the last maps have 2x2 pixels.
    """
    return MobileNetV1(num_classes, stem_stride=1)


def mobilenet_v1_imagenet(num_classes: int = 1000) -> MobileNetV1:
    """Return MobileNetV1 for 224x224 images: 569 M multiply-adds and 4.23 M parameters."""
    return MobileNetV1(num_classes, stem_stride=2)
