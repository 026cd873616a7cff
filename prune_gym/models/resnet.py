"""ResNets for 32x32 images (He et al. 2016, section 4.2) with parameter-free shortcuts (option A).

State-dict keys are those of the well-known public CIFAR ResNets (akamaster/pytorch_resnet_cifar10).
"""

import torch
from torch import nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut that subsamples and pads with zero channels."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        """Map ``channels`` to ``width`` channels, ``stride`` times smaller."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride = stride
        if stride > 1:
            zeros = (width - channels) // 2
            # A module and not F.pad, so that surgery can change how many zero channels there are.
            self.pad = nn.ZeroPad3d((0, 0, 0, 0, zeros, zeros))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output (N, width, H / stride, W / stride)."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = self.pad(x[:, :, ::2, ::2])
        return F.relu(out + x)


class ResNet(nn.Module):
    """Three stages of ``blocks`` residual blocks with 16, 32 and 64 channels."""

    def __init__(self, blocks: int, num_classes: int) -> None:
        """Build the layers."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        stages, channels = [], 16
        for stage, width in enumerate((16, 32, 64)):
            strides = [1 if stage == 0 else 2] + [1] * (blocks - 1)
            inputs = [channels] + [width] * (blocks - 1)
            stages.append(
                nn.Sequential(
                    *(BasicBlock(i, width, s) for i, s in zip(inputs, strides, strict=True))
                )
            )
            channels = width
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalized images (N, 3, 32, 32) to logits (N, classes)."""
        out = F.relu(self.bn1(self.conv1(images)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(out, 1), 1))


def resnet20(num_classes: int = 10) -> ResNet:
    """Return ResNet-20 with fresh weights: 41 M multiply-adds and 0.27 M parameters."""
    return ResNet(3, num_classes)


def resnet32(num_classes: int = 10) -> ResNet:
    """Return ResNet-32 with fresh weights: 69 M multiply-adds and 0.46 M parameters."""
    return ResNet(5, num_classes)


def resnet56(num_classes: int = 10) -> ResNet:
    """Return ResNet-56 with fresh weights: 125 M multiply-adds and 0.85 M parameters."""
    return ResNet(9, num_classes)


def resnet110(num_classes: int = 10) -> ResNet:
    """Return ResNet-110 with fresh weights: 253 M multiply-adds and 1.73 M parameters."""
    return ResNet(18, num_classes)
