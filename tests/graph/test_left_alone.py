"""What is not understood is left alone: it pins the channels that it touches, and no others."""

import copy
import pickle
import threading

import pytest
import torch
from cuts import check_random_cuts
from nets import NormOfMaps, Odd, conv
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from prune_gym.compression.verify import check_cut
from prune_gym.costs.flops import Flops
from prune_gym.costs.params import Params
from prune_gym.graph.residual_blocks import skip_blocks
from prune_gym.graph.trace import trace

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def initialized(net):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        with torch.no_grad():
            for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
                if tensor.ndim == 1 and "running" not in name:
                    tensor.copy_(torch.rand_like(tensor) + 0.5)
    return net.eval().requires_grad_(False)


def widths_of(net, shape=(3, 8, 8)):
    """Cut the network at random several times, check each cut, and return its groups."""
    net = initialized(net)
    table = trace(net, shape)
    images = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    check_random_cuts(net, table, images, cuts=3)
    return {group.name: group.size for group in table.groups}


def parameter(net, *shape):
    net.loose = nn.Parameter(torch.rand(*shape) + 0.5)
    return net


class Wrapped(nn.Module):
    """A module whose forward is ``how``."""

    def __init__(self, how, **modules):
        super().__init__()
        self.how = how
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x, *others, scale=None):
        return self.how(self, x, *others)


def by_value(module, x):
    return x if x.sum() > 0 else -x


def of_a_buffer():
    """Return a convolution whose weight nobody trains."""
    layer = nn.Conv2d(4, 4, 1)
    weight = layer.weight.detach()
    del layer.weight
    layer.register_buffer("weight", weight)
    return layer


@fx.wrap
def twice(x):
    return x, x


@fx.wrap
def positive(x):
    return x if x.sum() > 0 else -x


BOTH = {"first": 4, "second": 4}
PINS_FIRST = {
    "a roll of channels": Odd(lambda n, x: x.roll(1, 1)),
    "a roll of everything": Odd(lambda n, x: x.roll(1)),
    "a wrapped function of several tensors": Odd(lambda n, x: twice(x)[0]),
    "values decide in a wrapped function": Odd(lambda n, x: positive(x)),
    "an unknown module": Odd(
        lambda n, x: F.pixel_unshuffle(n.odd_one(x), 2), odd_one=nn.PixelShuffle(2)
    ),
    "a transposed convolution": Odd(lambda n, x: n.up(x), up=nn.ConvTranspose2d(4, 4, 2, 2)),
    "layer-norm without shift": Odd(
        lambda n, x: n.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        norm=nn.LayerNorm(4, bias=False),
    ),
    "attention over channels": Odd(
        lambda n, x: F.scaled_dot_product_attention(
            *[x.transpose(1, 2).contiguous()] * 3
        ).transpose(1, 2)
    ),
    "attention that adds tokens": Odd(
        lambda n, x: n.mix(*[x.flatten(2).transpose(1, 2)] * 3)[0].mT.reshape(-1, 4, 8, 8),
        mix=nn.MultiheadAttention(4, 2, batch_first=True, add_bias_kv=True),
    ),
    "a shuffle": Odd(lambda n, x: x.reshape(-1, 2, 2, 8, 8).transpose(1, 2).reshape(-1, 4, 8, 8)),
    "a buffer for each channel": Odd(
        lambda n, x: x * n.loose, loose=nn.Buffer(torch.ones(4, 1, 1))
    ),
    "flipped channels": Odd(lambda n, x: x[:, [3, 2, 1, 0]]),
    "a slice of channels": Odd(lambda n, x: torch.cat([x[:, 2:], x[:, :2]], 1)),
    "a split of channels": Odd(lambda n, x: torch.cat(x.split([3, 1], 1)[::-1], 1)),
    "the batch-norm without vectors": Odd(
        lambda n, x: n.norm(x), norm=nn.BatchNorm2d(4, affine=False)
    ),
    "channels divided by their length": Odd(lambda n, x: F.normalize(x)),
    "a mean over channels": Odd(lambda n, x: x - x.mean(1, keepdim=True)),
    "a mean over everything": Odd(lambda n, x: x - x.mean()),
    "one channel of several": Odd(lambda n, x: x + x[:, 1].unsqueeze(1)),
    "values decide in a module": Odd(lambda n, x: n.part(x), part=Wrapped(by_value)),
    "the number of channels as a number": Odd(lambda n, x: x / x.shape[1] ** 0.5),
    "an assertion on the number of channels": Odd(lambda n, x: x if x.shape[1] == 4 else x + 1),
    "ones around": Odd(lambda n, x: n.pad(x)[:, :4], pad=nn.ConstantPad3d((0, 0, 0, 0, 1, 0), 1.0)),
    "cropped": Odd(lambda n, x: n.pad(x), pad=nn.ZeroPad3d((0, 0, 0, 0, -2, 2))),
    "a weight that is a buffer": Odd(lambda n, x: n.two(x), two=of_a_buffer()),
    "a weight of two layers": Odd(
        lambda n, x: n.b(F.relu(n.a(x))), a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 4, 1)
    ),
    "one pad twice": Odd(lambda n, x: n.twice(n.twice(x)), twice=nn.ZeroPad3d((0,) * 6)),
    "a weight that is read elsewhere": Odd(lambda n, x: x * n.first.weight.sum()),
}
PINS_FIRST["a weight of two layers"].b.weight = PINS_FIRST["a weight of two layers"].a.weight


@pytest.mark.parametrize("name", PINS_FIRST)
def test_what_is_not_understood_pins_what_it_reads_and_no_more(name):
    assert widths_of(PINS_FIRST[name]) == {"second": 4}
    pins = {pin.layer: pin for pin in trace(PINS_FIRST[name], (3, 8, 8)).pins}
    assert pins["first"].channels == 4 and pins["first"].by and pins["first"].why


class SameNorm(nn.BatchNorm2d):
    """A batch-norm that says again what its parent does."""

    def forward(self, x):
        assert x.dim() == 4
        vectors = self.running_mean, self.running_var, self.weight, self.bias
        return F.batch_norm(x, *vectors, self.training, self.momentum, self.eps)


class NormAndActivation(SameNorm):
    """A batch-norm that applies an activation too, as timm's does."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.SiLU()

    def forward(self, x):
        return self.act(super().forward(x))


class SameConv(nn.Conv2d):
    """A convolution that calls its parent."""

    def forward(self, x):
        return super().forward(x)


class SameLinear(nn.Linear):
    """A linear layer that says again what its parent does."""

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


def parts_and_a_list(net, x):
    """YOLO's C2f: halves, of which one goes on, and all of them side by side."""
    parts = list(net.wide(x).chunk(2, 1))
    parts.extend(layer(parts[-1]) for layer in net.layers)
    return net.back(torch.cat(parts, 1))


def tokens(net, x):
    """An MLP on the pixels as tokens, with a shortcut."""
    count, channels, height, width = x.shape
    y = x.flatten(2).transpose(1, 2)
    y = y + net.down(F.gelu(net.up(net.norm(y))))
    return y.transpose(1, 2).reshape(count, channels, height, width)


def shapes_decide(net, x):
    assert x.dim() == 4 and x.size(2) > 2
    if x.shape[-1] % 2:
        x = F.pad(x, (0, 1))
    for _ in range(x.ndim - 3):
        x = nn.ReLU()(x)
    return x


def neighbors(net, x):
    """Swin's: the channels of four pixels side by side, as the channels of one."""
    y = x.permute(0, 2, 3, 1).unflatten(1, (4, 2)).unflatten(3, (4, 2)).transpose(2, 3)
    return net.back(net.norm(net.flat(x, y.flatten(3, 4)))).permute(0, 3, 1, 2)


def windows(net, x):
    """Four windows of 4x4 pixels in the place of the images, as EfficientViT's."""
    y = x.unflatten(2, (2, 4)).unflatten(4, (2, 4)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    y = F.avg_pool2d(net.inner(y), 3, 1, 1).unflatten(0, (-1, 2, 2))
    return y.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def normed_tokens(net, x):
    """Batch-norm of tokens, as LeViT's."""
    y = net.inner(x.flatten(2).transpose(1, 2))
    return net.norm(y.flatten(0, 1)).reshape_as(y).transpose(1, 2).unflatten(2, (8, 8))


def of_no_image(net, x):
    """A bias that a layer computes from constants, as Swin V2's."""
    y = net.inner(net.places).mean(1)
    return x + y.view(1, 1, 8, 8)


WINDOWS = Odd(windows, inner=nn.Conv2d(4, 4, 3, padding=1))
CONSTANT = Odd(of_no_image, inner=nn.Linear(2, 5), places=nn.Buffer(torch.rand(64, 2)))


@fx.wrap
def doubled(x):
    """A function that torch.fx is told not to trace into."""
    return F.relu(x) * 2


MERGING = {"norm": nn.LayerNorm(16), "back": nn.Linear(16, 4)}
UNDERSTOOD = {
    "neighbors side by side": (
        Odd(neighbors, flat=Wrapped(lambda m, x, y: y.flatten(3)), **copy.deepcopy(MERGING)),
        BOTH | {"back": 4},
    ),
    "neighbors, the width computed": (
        Odd(
            neighbors,
            flat=Wrapped(lambda m, x, y: y.reshape(-1, 4, 4, 4 * x.shape[1])),
            **copy.deepcopy(MERGING),
        ),
        BOTH | {"back": 4},
    ),
    "windows in the place of images": (WINDOWS, BOTH | {"inner": 4}),
    "batch-norm of tokens": (
        Odd(normed_tokens, inner=nn.Linear(4, 4), norm=nn.BatchNorm1d(4)),
        BOTH | {"inner": 4},
    ),
    "a layer that reads no image": (CONSTANT, BOTH),
    "a slice of all channels": (Odd(lambda n, x: x[:, :4, 1:] + x[:, 0:9, :7]), BOTH),
    "a roll of pixels": (Odd(lambda n, x: x.roll((1, -1), (2, -1)) + x.roll(1, dims=2)), BOTH),
    "a wrapped function": (Odd(lambda n, x: doubled(x)), BOTH),
    "shapes that decide": (Odd(shapes_decide), BOTH),
    "a norm that is its parent": (Odd(lambda n, x: n.norm(x), norm=SameNorm(4)), BOTH),
    "a layer-norm of maps": (Odd(lambda n, x: n.norm(x), norm=NormOfMaps(4)), BOTH),
    "a norm and an activation": (Odd(lambda n, x: n.norm(x), norm=NormAndActivation(4)), BOTH),
    "a convolution that is its parent": (
        Odd(lambda n, x: n.two(x), two=SameConv(4, 4, 1)),
        {"first": 4, "two": 4, "second": 4},
    ),
    "a linear layer that is its parent": (
        Odd(lambda n, x: x, lambda n, x: n.hidden(x.flatten(1)), hidden=SameLinear(256, 4)),
        BOTH | {"hidden": 4},
    ),
    "halves and a list": (
        Odd(
            parts_and_a_list,
            wide=conv(4, 6),
            layers=nn.ModuleList([conv(3, 3), conv(3, 3)]),
            back=nn.Conv2d(12, 4, 1),
        ),
        {"first": 4, "wide.0": 3, "layers.0.0": 3, "layers.1.0": 3, "back": 4, "second": 4},
    ),
    "one channel that gates all": (
        Odd(lambda n, x: n.one(x).sigmoid() * x, one=nn.Conv2d(4, 1, 1)),
        BOTH,
    ),
    "a scale for each channel": (
        parameter(Odd(lambda n, x: x * n.loose), 4, 1, 1),
        BOTH,
    ),
    "a scale for each channel, of a number": (
        parameter(Odd(lambda n, x: x * n.loose.clamp(max=4.6).exp()), 4, 1, 1),
        BOTH,
    ),
    "columns divided by their length": (Odd(lambda n, x: F.normalize(x, dim=-2)), BOTH),
    "a scale of one number": (parameter(Odd(lambda n, x: x * n.loose), 1), BOTH),
    "channels last and back": (
        Odd(lambda n, x: x.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2).contiguous()),
        BOTH,
    ),
    "pixels in a row": (
        Odd(lambda n, x: x.to(x.dtype), lambda n, x: x.flatten(2).mean(-1)),
        BOTH,
    ),
    "the largest pixel": (
        Odd(lambda n, x: x, lambda n, x: F.adaptive_max_pool2d(x, 1).squeeze(-1).squeeze(-1)),
        BOTH,
    ),
    "the largest of each row": (Odd(lambda n, x: x, lambda n, x: x.amax(2).sum(-1)), BOTH),
    "a larger map": (Odd(lambda n, x: F.interpolate(x, size=x.shape[-1] * 2)), BOTH),
    "side by side in height": (Odd(lambda n, x: torch.cat([x, x.relu()], 2)), BOTH),
    "halves of the height": (Odd(lambda n, x: torch.add(*x.chunk(2, 2))), BOTH),
    "an index of pixels": (Odd(lambda n, x: x[..., ::2][:, :, 1:]), BOTH),
    "a difference": (Odd(lambda n, x: F.avg_pool2d(x, 3, 1, 1) - x), BOTH),
    "tokens": (
        Odd(tokens, norm=nn.LayerNorm(4), up=nn.Linear(4, 9), down=nn.Linear(9, 4)),
        BOTH | {"up": 9},
    ),
    "arguments that have a default": (
        Odd(lambda n, x: n.part(x), part=Wrapped(lambda m, x: F.relu(x))),
        BOTH,
    ),
    "a data-parallel part": (Odd(lambda n, x: n.part(x), part=nn.DataParallel(nn.ReLU())), BOTH),
    "transformer layer": (
        Odd(
            lambda n, x: n.part(x.flatten(2).mT).mT.unflatten(2, (8, 8)),
            part=nn.TransformerEncoderLayer(4, 2, 12, batch_first=True),
        ),
        BOTH | {"part.self_attn.q_proj": 2, "part.linear1": 12},
    ),
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_these_are_understood(name):
    net, expected = UNDERSTOOD[name]
    assert widths_of(net) == expected


@pytest.mark.parametrize("name", [*PINS_FIRST, *UNDERSTOOD])
def test_every_parameter_is_counted(name):
    net = PINS_FIRST[name] if name in PINS_FIRST else UNDERSTOOD[name][0]
    table = trace(initialized(net), (3, 8, 8))
    found = Params(table)(table.configuration())[0]
    assert found == sum(parameter.numel() for parameter in net.parameters())


def test_a_bias_that_is_read_before_its_layer_is_counted_once():
    net = initialized(Odd(lambda n, x: x * n.second.bias.sum()))
    table = trace(net, (3, 8, 8))
    found = Params(table)(table.configuration())[0]
    assert found == sum(parameter.numel() for parameter in net.parameters())
    check_cut(net, table, IMAGES)


def test_multiply_adds_that_are_in_no_layer_are_listed():
    net = PINS_FIRST["a transposed convolution"]
    assert trace(net, (3, 8, 8)).uncounted == (("up", 4 * 4 * 2 * 2 * 64),)


@pytest.mark.parametrize("name", ["attention over channels", "attention that adds tokens"])
def test_all_multiply_adds_are_in_layers_or_listed(name):
    net = PINS_FIRST[name]
    table = trace(net, (3, 8, 8))
    listed = sum(count for _, count in table.uncounted)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        net(IMAGES[:1])
    counted = Flops(table)(table.configuration())[0]
    assert counted + listed == counter.get_total_flops() / 2


def test_tokens_are_multiplied_as_often_as_there_are():
    table = trace(UNDERSTOOD["tokens"][0], (3, 8, 8))
    assert table.layer("up").out_size == (64, 1)


def test_multiply_adds_of_windows_are_those_of_all_windows():
    net = initialized(WINDOWS)
    table = trace(net, (3, 8, 8))
    with FlopCounterMode(display=False) as counter:
        net(IMAGES[:1])
    assert Flops(table)(table.configuration())[0] == counter.get_total_flops() / 2


def test_a_layer_that_is_never_used_is_left_alone():
    net = Odd(lambda n, x: x, aux=nn.Linear(4, 4))
    assert widths_of(net) == BOTH


def test_what_is_added_to_a_single_channel_is_no_block():
    net = Odd(
        lambda n, x: (y := n.one(x)) + n.two(F.relu(y)),
        one=nn.Conv2d(4, 1, 1),
        two=nn.Conv2d(1, 4, 1),
    )
    assert widths_of(net) == {"first": 4, "two": 4, "second": 4}
    assert trace(net, (3, 8, 8)).blocks == ()


def add_a_branch(net, x):
    return x + net.two(F.relu(net.norm(x)))


def test_a_skipped_block_is_pickled_with_its_network():
    net = Odd(add_a_branch, norm=NormAndActivation(4))
    net.two = nn.Conv2d(4, 4, 1)
    net = initialized(net)
    table = trace(net, (3, 8, 8))
    (block,) = table.blocks
    assert block.layers == ("norm", "two")
    small = skip_blocks(net, [block], (3, 8, 8))
    again = pickle.loads(pickle.dumps(small))
    net.odd = lambda n, x: x
    torch.testing.assert_close(again(IMAGES), net(IMAGES))


class Regularized(nn.Module):
    """Two branches whose widths are given as the other's number of channels."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.out = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 1), nn.Linear(6, 4)

    def forward(self, x):
        count, channels = self.one(x).shape[:2]
        return self.out(self.two(x).mean((2, 3)).reshape(count, channels))


def test_a_width_that_another_tensor_gives_is_cut_with_it():
    assert widths_of(Regularized()) == {"one": 6}


def test_networks_are_traced_in_threads_while_others_run():
    net, other = UNDERSTOOD["shapes that decide"][0].eval(), Odd(lambda n, x: x).eval()
    found, failed, stop = [], [], threading.Event()

    def run():
        try:
            while not stop.is_set():
                other(IMAGES)
        except Exception as error:
            failed.append(error)

    threads = [
        threading.Thread(target=lambda: found.append(len(trace(net, (3, 8, 8)).groups)))
        for _ in range(4)
    ]
    runner = threading.Thread(target=run)
    for thread in (runner, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    runner.join()
    assert found == [2] * 4 and not failed


def kept_for_the_next_call(net, x):
    net.kept.setdefault("bias", net.loose * 2)
    net.last = x
    return x + net.kept["bias"]


def test_tracing_leaves_nothing_in_the_network():
    net = initialized(parameter(Odd(kept_for_the_next_call), 4, 1, 1))
    net.kept = {}
    expected = {name: type(value) for name, value in vars(net).items()}
    trace(net, (3, 8, 8))
    assert {name: type(value) for name, value in vars(net).items()} == expected
    assert net.kept == {}
    assert torch.is_tensor(net(IMAGES))
