"""Small networks of every shape that surgery must handle; inputs are 3x8x8."""

import torch
from torch import fx, nn
from torch.nn import functional as F

from prune_gym.models.resnet import ResNet


def conv(inputs, outputs, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _mean(net, x):
    return x.mean((2, 3))


class NormOfMaps(nn.LayerNorm):
    """A layer-norm that moves the channels of maps to the end, as ConvNeXt's."""

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class Odd(nn.Module):
    """A small network with a place for what is odd between its two convolutions.

    ``head`` is what comes before the last layer, by default the mean of each channel.
    """

    def __init__(self, odd, head=None, **modules):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.out = nn.Linear(4, 4)
        self.odd, self.head = odd, head or _mean
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        x = self.second(self.odd(self, self.first(x)))
        return self.out(self.head(self, x))


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(conv(3, 12), nn.MaxPool2d(2), conv(12, 16), conv(16, 16))
        self.classifier = nn.Linear(16, 4)

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


class Flattened(nn.Module):
    """Biases, a convolution without batch-norm, and a linear layer that reads 4x4 maps."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 5, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.hidden = nn.Linear(5 * 4 * 4, 9)
        self.out = nn.Linear(9, 4)

    def forward(self, x):
        x = F.relu(self.norm(self.conv2(F.relu(self.conv1(x)))))
        return self.out(F.relu(self.hidden(torch.flatten(x, 1))))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.back = conv(3, 8), conv(8, 10), conv(10, 8)
        self.shortcut = nn.Conv2d(8, 7, 1, stride=2)
        self.down = conv(8, 7, stride=2)
        self.out = nn.Linear(7, 4)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.back(self.inner(x))
        x = F.relu(self.down(x) + self.shortcut(x))
        return self.out(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Depthwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.depthwise, self.pointwise = conv(3, 8), conv(8, 8, groups=8), conv(8, 6)
        self.out = nn.Linear(6, 4)

    def forward(self, x):
        x = self.pointwise(self.depthwise(self.stem(x)))
        return self.out(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Grouped(nn.Module):
    """A grouped convolution in a residual block, and a depthwise one with two outputs an input."""

    def __init__(self):
        super().__init__()
        self.stem, self.reduce = conv(3, 8), conv(8, 12)
        self.grouped, self.back = conv(12, 8, groups=4), nn.Conv2d(8, 8, 1)
        self.pair, self.out = nn.Conv2d(8, 16, 3, 2, groups=8), nn.Linear(16, 4)

    def forward(self, x):
        x = self.stem(x)
        x = F.relu(x + self.back(self.grouped(self.reduce(x))))
        return self.out(F.adaptive_avg_pool2d(F.relu(self.pair(x)), 1).flatten(1))


class Concat(nn.Module):
    """Two branches side by side, one of them read twice; batch-norm after the concatenation."""

    def __init__(self):
        super().__init__()
        self.stem, self.left, self.right = conv(3, 6), conv(6, 5), conv(6, 4)
        self.norm = nn.BatchNorm2d(6 + 5 + 4)
        self.mix = conv(15, 8)
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        x = F.relu(self.norm(torch.cat([x, self.left(x), self.right(x)], dim=1)))
        return self.out(F.adaptive_avg_pool2d(self.mix(x), 1).flatten(1))


class Preactivation(nn.Module):
    """Batch-norm before the convolution; the sum reads what it normalizes."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm, self.inner = nn.BatchNorm2d(8), nn.Conv2d(8, 10, 3, padding=1, bias=False)
        self.norm2, self.back = nn.BatchNorm2d(10), nn.Conv2d(10, 8, 3, padding=1)
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.back(F.relu(self.norm2(self.inner(F.relu(self.norm(x))))))
        return self.out(x.mean((2, 3)))


class TwoNorms(nn.Module):
    """Two batch-norms read one convolution."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.left, self.right = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.mix = conv(8, 6)
        self.out = nn.Linear(6, 4)

    def forward(self, x):
        x = self.stem(x)
        x = self.mix(F.silu(self.left(x)) + torch.sigmoid(self.right(x)))
        return self.out(F.adaptive_avg_pool2d(x, 1).flatten(1))


class LongSkips(nn.Module):
    """Two residual blocks in a row whose first x, and whose first sum, are read at the end too."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.second = conv(3, 8), conv(8, 5), conv(8, 6)
        self.back, self.again = nn.Conv2d(5, 8, 1), nn.Conv2d(6, 8, 1)
        self.mix, self.out = conv(24, 7), nn.Linear(7, 4)

    def forward(self, x):
        x = self.stem(x)
        one = x + self.back(self.first(x))
        two = one + self.again(self.second(one))
        x = self.mix(torch.cat([x, one, two], 1))
        return self.out(F.adaptive_avg_pool2d(x, 1).flatten(1))


def padded_shortcut():
    """Return a ResNet whose shortcuts pad with zero channels, by modules."""
    return ResNet(2, 4)


class PaddedInCode(nn.Module):
    """A shortcut whose padding is written in the code, where surgery cannot change it."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.back = conv(3, 6), conv(6, 5, stride=2), conv(5, 10)
        self.out = nn.Linear(10, 4)

    def forward(self, x):
        x = self.stem(x)
        x = self.back(self.inner(x)) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 3))
        return self.out(F.adaptive_avg_pool2d(x, 1).flatten(1))


class PaddedUnevenly(nn.Module):
    """Zero channels on one side, batch-norm after the addition, and zeros that nothing meets."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner = conv(3, 6), conv(6, 9)
        self.pad, self.lonely = nn.ZeroPad3d((0, 0, 0, 0, 3, 0)), nn.ZeroPad3d((1, 1, 0, 0, 1, 2))
        self.norm, self.mix = nn.BatchNorm2d(9), nn.Conv2d(12, 7, 3)
        self.out = nn.Linear(7, 4)

    def forward(self, x):
        x = self.stem(x)
        x = self.lonely(F.relu(self.norm(self.pad(x) + self.inner(x))))
        return self.out(self.mix(x).mean((2, 3)))


class Gated(nn.Module):
    """Squeeze-and-excitation by linear layers, in a residual block, and by convolutions."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner = conv(3, 8), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.pool = nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1)
        self.squeeze, self.excite = nn.Linear(8, 3), nn.Linear(3, 8)
        self.wide, self.narrow, self.open = conv(8, 6), nn.Conv2d(6, 4, 1), nn.Conv2d(4, 6, 1)
        self.out = nn.Linear(6, 4)

    def forward(self, x):
        x = self.stem(x)
        y = self.norm(self.inner(x))
        count, channels, _, _ = y.size()
        gate = self.squeeze(self.pool(y).view(count, channels))
        gate = torch.sigmoid(self.excite(F.relu(gate))).view(count, channels, 1, 1)
        x = self.wide(F.relu(x + y * gate.expand_as(y)))
        gate = self.open(F.silu(self.narrow(x.mean((2, 3), keepdim=True))))
        x = x * (F.relu6(gate + 3) / 6)
        return self.out(x.mean((2, 3)))


class _Inner(nn.Module):
    """Two residual blocks in one module."""

    def __init__(self):
        super().__init__()
        self.one, self.two = conv(8, 6), nn.Conv2d(6, 8, 1)
        self.three, self.four = conv(8, 5), nn.Conv2d(5, 8, 1)

    def forward(self, x):
        x = x + self.two(self.one(x))
        return F.relu(x + self.four(self.three(x)))


class Nested(nn.Module):
    """Residual blocks of one module, in the branch of another block that begins with them."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.back = conv(3, 8), _Inner(), conv(8, 8)
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.back(self.inner(F.silu(x)))
        return self.out(x.mean((2, 3)))


class Broadcast(nn.Module):
    """A number for each channel added to its whole map, and a swish written as a product."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.context = conv(3, 7), conv(7, 6), nn.Conv2d(6, 6, 1)
        self.mix, self.out = nn.Conv2d(6, 5, 3), nn.Linear(5, 4)

    def forward(self, x):
        x = self.inner(self.stem(x))
        x = self.mix(x + self.context(F.adaptive_avg_pool2d(x, 1)))
        return self.out((x * torch.sigmoid(x)).mean((2, 3)))


@fx.wrap
def stochastic_depth(x, training):
    """Leave the branch out at random, as torchvision does."""
    return x * (torch.rand(()) < 0.5) if training else x


class Probabilities(nn.Module):
    """A softmax over channels inside, one over classes at the end, a branch left out at random."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.back = conv(3, 8), conv(8, 6), nn.Conv2d(6, 8, 1)
        self.gates, self.out = nn.Conv2d(8, 5, 1), nn.Linear(5, 4)
        self.normal = nn.Softmax(dim=1)

    def forward(self, x):
        x = self.stem(x)
        x = x + stochastic_depth(self.back(self.inner(x)), self.training)
        return F.log_softmax(self.out(self.normal(self.gates(x)).mean((2, 3))), dim=1)


class Learned(nn.Module):
    """Activations with a slope for each channel or for all, and batch-norms of vectors."""

    def __init__(self):
        super().__init__()
        self.stem, self.slopes = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)), nn.PReLU(6)
        self.inner, self.slope = nn.Conv2d(6, 5, 3, padding=1), nn.PReLU()
        self.flat = nn.BatchNorm1d(5 * 4)
        self.hidden = nn.Sequential(nn.Linear(20, 9, bias=False), nn.BatchNorm1d(9), nn.PReLU(9))
        self.out = nn.Linear(9, 4)

    def forward(self, x):
        x = self.slope(self.inner(self.slopes(self.stem(x))))
        return self.out(self.hidden(self.flat(torch.flatten(F.max_pool2d(x, 3), 1))))


class GroupNorms(nn.Module):
    """Norms of groups of two and three channels, of single ones, and of a whole map."""

    def __init__(self):
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 8, 3, bias=False), nn.GroupNorm(4, 8)
        self.inner, self.norm = nn.Conv2d(8, 6, 3, padding=1), nn.GroupNorm(2, 6)
        self.back, self.alone = nn.Conv2d(6, 8, 1), nn.GroupNorm(8, 8)
        self.mix, self.whole = nn.Conv2d(8, 5, 3), nn.GroupNorm(1, 5)
        self.out = nn.Linear(5, 4)

    def forward(self, x):
        x = F.relu(self.first(self.stem(x)))
        x = F.relu(x + self.alone(self.back(F.relu(self.norm(self.inner(x))))))
        return self.out(self.whole(self.mix(x)).mean((2, 3)))


ZOO = {
    "plain": Tiny,
    "flattened": Flattened,
    "residual": Residual,
    "padded shortcut": padded_shortcut,
    "padded in code": PaddedInCode,
    "padded unevenly": PaddedUnevenly,
    "depthwise": Depthwise,
    "grouped": Grouped,
    "concat": Concat,
    "preactivation": Preactivation,
    "two norms": TwoNorms,
    "gated": Gated,
    "broadcast": Broadcast,
    "nested": Nested,
    "long skips": LongSkips,
    "probabilities": Probabilities,
    "learned": Learned,
    "group norms": GroupNorms,
}


def make(name):
    """Return a network of the zoo whose batch-norms are not the identity, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = ZOO[name]()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
                nn.init.normal_(module.running_mean, std=0.3)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
            elif isinstance(module, nn.GroupNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
            elif isinstance(module, nn.PReLU):
                nn.init.uniform_(module.weight, -0.5, 0.5)
    return net.eval().requires_grad_(False)
