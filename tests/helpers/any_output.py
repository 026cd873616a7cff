"""Networks whose outputs are no logits of classes; inputs are 3x16x16."""

import torch
from nets import conv
from torch import nn
from torch.nn import functional as F


class Segmenter(nn.Module):
    """A small U-Net: a transposed convolution, and a concatenation with the encoder's map."""

    def __init__(self, classes=3):
        super().__init__()
        self.encoder, self.bottom = conv(3, 8), nn.Sequential(conv(8, 16), conv(16, 12))
        self.up = nn.ConvTranspose2d(12, 8, 2, stride=2)
        self.decoder, self.head = conv(16, 8), nn.Conv2d(8, classes, 1)

    def forward(self, x):
        skip = self.encoder(x)
        x = self.up(self.bottom(F.max_pool2d(skip, 2)))
        return self.head(self.decoder(torch.cat([x, skip], 1)))


class TwoHeads(nn.Module):
    """Classes of the image, and a depth of every pixel."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(conv(3, 8), conv(8, 12))
        self.classes, self.depth = nn.Linear(12, 4), nn.Conv2d(12, 1, 3, padding=1)

    def forward(self, x):
        x = self.trunk(x)
        return {"classes": self.classes(x.mean((2, 3))), "depth": self.depth(x)}


class SplitBlock(nn.Module):
    """Halves of a map side by side, one of them through bottlenecks whose outputs are all kept."""

    def __init__(self, inputs, outputs, depth=2, shortcut=True):
        super().__init__()
        self.half, self.shortcut = outputs // 2, shortcut
        self.first = conv(inputs, outputs)
        self.inner = nn.ModuleList(
            nn.Sequential(conv(self.half, self.half), conv(self.half, self.half))
            for _ in range(depth)
        )
        self.last = conv((2 + depth) * self.half, outputs)

    def forward(self, x):
        parts = list(self.first(x).chunk(2, 1))
        for each in self.inner:
            y = each(parts[-1])
            parts.append(parts[-1] + y if self.shortcut else y)
        return self.last(torch.cat(parts, 1))


class Pyramid(nn.Module):
    """A pool applied again and again, every result kept."""

    def __init__(self, channels):
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 2, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.last = conv(2 * channels, channels)

    def forward(self, x):
        parts = [self.reduce(x)]
        parts.extend(self.pool(parts[-1]) for _ in range(3))
        return self.last(torch.cat(parts, 1))


class Detector(nn.Module):
    """A detector in the style of today's YOLOs: two scales, boxes and classes in separate heads.

    It returns boxes (N, 4, places) and class scores (N, classes, places).
    """

    def __init__(self, classes=3):
        super().__init__()
        self.classes = classes
        self.stem = conv(3, 8, stride=2)
        self.near = SplitBlock(8, 12)
        self.down, self.far = conv(12, 16, stride=2), SplitBlock(16, 16, depth=1)
        self.pyramid = Pyramid(16)
        self.up = nn.Upsample(scale_factor=2)
        self.neck = SplitBlock(28, 12, depth=1, shortcut=False)
        self.boxes = nn.ModuleList(nn.Sequential(conv(c, 8), nn.Conv2d(8, 4, 1)) for c in (12, 16))
        self.scores = nn.ModuleList(
            nn.Sequential(conv(c, 8), nn.Conv2d(8, classes, 1)) for c in (12, 16)
        )

    def forward(self, x):
        near = self.near(self.stem(x))
        far = self.pyramid(self.far(self.down(near)))
        near = self.neck(torch.cat([self.up(far), near], 1))
        found = [
            torch.cat([boxes(x), scores(x)], 1).view(x.shape[0], 4 + self.classes, -1)
            for x, boxes, scores in zip((near, far), self.boxes, self.scores, strict=True)
        ]
        boxes, scores = torch.cat(found, 2).split((4, self.classes), 1)
        return boxes.exp(), scores.sigmoid()
