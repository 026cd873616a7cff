"""VGG16 and VGG19 with batch-norm for 32x32 images (Simonyan & Zisserman 2015), and a small one."""

import torch
from torch import nn

# Output channels of the 13 and 16 convolutions; "pool" halves the image.
VGG16 = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool") + (512, 512, 512, "pool") * 2
VGG16_HALF = tuple(step if isinstance(step, str) else step // 2 for step in VGG16)
VGG6 = (16, "pool", 16, "pool", 32, "pool", 32, "pool", 32, "pool")
VGG19 = (64, 64, "pool", 128, 128, "pool") + (*(256,) * 4, "pool") + (*(512,) * 4, "pool") * 2


class VGG(nn.Module):
    """Convolutions of 3x3 without bias, batch-norm, ReLU and 2x2 max-pools, then one linear layer.

    State-dict keys are ``features.N.*`` in a flat ``nn.Sequential`` and ``classifier.*``.
    """

    def __init__(self, plan: tuple[int | str, ...], num_classes: int) -> None:
        """Build the layers of ``plan``: channel counts and ``"pool"``."""
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for step in plan:
            if isinstance(step, str):
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [
                nn.Conv2d(channels, step, 3, padding=1, bias=False),
                nn.BatchNorm2d(step),
                nn.ReLU(inplace=True),
            ]
            channels = step
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalized images (N, 3, 32, 32) to logits (N, classes)."""
        return self.classifier(torch.flatten(self.features(images), 1))


def vgg16(num_classes: int = 10) -> VGG:
    """Return VGG16-BN with fresh weights: 313 M multiply-adds and 14.7 M parameters at 32x32."""
    return VGG(VGG16, num_classes)


def vgg16_half(num_classes: int = 10) -> VGG:
    """Return VGG16-BN of half the width: 78 M multiply-adds and 3.7 M parameters at 32x32."""
    return VGG(VGG16_HALF, num_classes)


def vgg19(num_classes: int = 10) -> VGG:
    """Return VGG19-BN with fresh weights: 398 M multiply-adds and 20.0 M parameters at 32x32."""
    return VGG(VGG19, num_classes)


def vgg6(num_classes: int = 10) -> VGG:
    """Return five convolutions of 16 to 32 channels: 3.0 M multiply-adds, 26 k parameters.

    Small enough that all of its strategies can be evaluated (``ChannelPrune-Table-v0``).
    """
    return VGG(VGG6, num_classes)
