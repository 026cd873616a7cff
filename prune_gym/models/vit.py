"""A vision transformer for 32x32 images (Dosovitskiy et al. 2021, arXiv 2010.11929).

The layers have the names of timm's. Convolutions make the tokens (Xiao et al. 2021, arXiv
2106.14881), and tokens are averaged in place of a class token (Beyer et al. 2022, arXiv
2205.01580). The forward writes no number of heads and no width of an MLP, so that both can be cut.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Self-attention of tokens."""

    def __init__(self, width: int, head_dim: int) -> None:
        """Build ``width / head_dim`` heads."""
        super().__init__()
        self.head_dim = head_dim
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens (N, tokens, width) to the same shape."""
        qkv = self.qkv(x).unflatten(-1, (3, -1, self.head_dim)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        attention = (q @ k.transpose(-2, -1) * self.head_dim**-0.5).softmax(-1)
        return self.proj((attention @ v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        """Build ``hidden`` channels between the layers."""
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens (N, tokens, width) to the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and an MLP, each added to what it reads."""

    def __init__(self, width: int, head_dim: int, hidden: int, epsilon: float = 1e-5) -> None:
        """Build the two branches, each behind a layer-norm with ``epsilon``."""
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=epsilon)
        self.attn = Attention(width, head_dim)
        self.norm2 = nn.LayerNorm(width, eps=epsilon)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens (N, tokens, width) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """One token for each 4x4 patch of an image."""

    def __init__(self, width: int) -> None:
        """Build 3x3 convolutions, two of stride 2, and one that projects to ``width`` channels."""
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for channels, stride in ((width // 4, 1), (width // 2, 2), (width, 2), (width, 1)):
            layers += [nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(channels), nn.ReLU()]
            inputs = channels
        self.stem = nn.Sequential(*layers)
        self.proj = nn.Conv2d(width, width, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (N, 3, H, W) to tokens (N, H / 4 * W / 4, width)."""
        return self.proj(self.stem(images)).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """Patches, positions, blocks and a classifier of the mean token."""

    def __init__(self, size: int, width: int, depth: int, head_dim: int, num_classes: int) -> None:
        """Build the layers for images of ``size`` x ``size``; an MLP is four times as wide."""
        super().__init__()
        self.patch_embed = PatchEmbed(width)
        self.pos_embed = nn.Parameter(torch.randn(1, (size // 4) ** 2, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, head_dim, 4 * width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalized images (N, 3, size, size) to logits (N, classes)."""
        x = self.blocks(self.patch_embed(images) + self.pos_embed)
        return self.head(self.norm(x).mean(1))


def vit_tiny(num_classes: int = 10) -> VisionTransformer:
    """Return a vision transformer of 6 blocks, 64 wide: 27 M multiply-adds, 0.37 M parameters."""
    return VisionTransformer(32, 64, 6, 16, num_classes)
