"""DeiT-Tiny for 224x224 images (Touvron et al. 2021, arXiv 2012.12877), with the keys of timm."""

import torch
from torch import nn

from prune_gym.models.vit import Block

EPSILON = 1e-6  # of layer-norms


class PatchEmbed(nn.Module):
    """One token for each 16x16 patch of an image."""

    def __init__(self, width: int, patch: int) -> None:
        """Build the convolution that projects a patch to ``width`` channels."""
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (N, 3, H, W) to tokens (N, H / patch * W / patch, width)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class DeiT(nn.Module):
    """Patches, a class token, positions, blocks and a classifier of the class token."""

    def __init__(self, size: int, width: int, depth: int, head_dim: int, num_classes: int) -> None:
        """Build the layers for images of ``size`` x ``size``; an MLP is four times as wide."""
        super().__init__()
        patch = 16
        self.patch_embed = PatchEmbed(width, patch)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, width) * 0.02)
        self.blocks = nn.Sequential(
            *(Block(width, head_dim, 4 * width, EPSILON) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalized images (N, 3, size, size) to logits (N, classes)."""
        patches = self.patch_embed(images)
        x = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], 1)
        return self.head(self.norm(self.blocks(x + self.pos_embed))[:, 0])


def deit_tiny(num_classes: int = 1000) -> DeiT:
    """Return DeiT-Tiny: 12 blocks, 192 wide, 1.25 G multiply-adds, 5.7 M parameters."""
    return DeiT(224, 192, 12, 64, num_classes)
