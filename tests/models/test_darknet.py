import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from prune_gym._utils.paths import data_home
from prune_gym.compression.surgery import cut
from prune_gym.costs import build_costs
from prune_gym.errors import UserError
from prune_gym.graph.residual_blocks import skip_blocks
from prune_gym.graph.trace import trace
from prune_gym.models.darknet.cfg import parse_cfg, write_cfg
from prune_gym.models.darknet.network import Darknet
from prune_gym.models.darknet.weights import load_darknet, load_weights, save_darknet
from prune_gym.models.yolov3 import yolov3, yolov3_cfg, yolov3_eighth, yolov3_tiny

# Route groups, a pool with Darknet's uneven padding, depthwise layers, and a second reader.
PARTS = """
[net]
width=32
height=32
channels=3
# 0
[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky
# 1
[route]
layers=-1
groups=2
group_id=1
# 2
[convolutional]
batch_normalize=1
filters=4
groups=4
size=5
pad=1
activation=mish
# 3
[dropout]
probability=.1
# 4
[maxpool]
size=2
stride=1
# 5
[convolutional]
batch_normalize=1
filters=8
size=1
activation=relu6
# 6
[shortcut]
from=0
activation=relu
# 7
[maxpool]
size=2
stride=2
# 8
[upsample]
stride=2
# 9
[route]
layers=-1, 5
# 10
[convolutional]
filters=14
size=1
activation=linear
# 11
[yolo]
mask=1,0
anchors=4,5, 9,9
classes=2
num=2
"""


def parts():
    return shaken(Darknet(parse_cfg(PARTS)))


def shaken(network):
    """Give every batch-norm something to do."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5, generator)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.3, generator=generator)
    return network.eval().requires_grad_(False)


def narrow_tiny():
    return shaken(yolov3_tiny(3, 1 / 16, 64))


def narrow():
    return shaken(yolov3(3, 1 / 16, 64))


NETWORKS = {"parts": parts, "yolov3": narrow, "yolov3-tiny": narrow_tiny}


def images(network, count=2):
    return torch.rand(count, *network.input_shape, generator=torch.Generator().manual_seed(1))


def random_kept(table, seed=0):
    rng = np.random.default_rng(seed)
    return [
        np.sort(rng.permutation(group.size)[: rng.integers(1, group.size + 1)])
        for group in table.groups
    ]


def batch_normed(table):
    """Output numbers of one image that a batch-norm writes."""
    return sum(
        int(table.outputs(table.full[None])[0, index]) * layer.out_size[0] * layer.out_size[1]
        for index, layer in enumerate(table.layers)
        if layer.kind == "batch_norm"
    )


# ABCP (arXiv:2110.03858), README: GFLOPs and millions of parameters. Its GFLOPs are two per
# multiply-add and five per number that a batch-norm writes (with its activation).
@pytest.mark.parametrize(
    ("build", "classes", "gflops", "params"),
    [
        (yolov3, 3, 65.496, 61.535),
        (yolov3, 5, 65.510, 61.545),
        (yolov3_tiny, 3, 5.475, 8.674),
        (yolov3_tiny, 5, 5.478, 8.679),
    ],
)
def test_counts_are_the_papers(build, classes, gflops, params):
    network = build(classes).eval()
    table = trace(network, network.input_shape)
    costs = build_costs(table, None)
    configuration = table.configuration()
    multiply_adds = float(costs["flops"](configuration)[0])
    assert (2 * multiply_adds + 5 * batch_normed(table)) / 1e9 == pytest.approx(gflops, abs=6e-4)
    assert 2 * multiply_adds / 1e9 == pytest.approx(gflops, rel=0.006)
    assert float(costs["params"](configuration)[0]) / 1e6 == pytest.approx(params, abs=6e-4)


def test_yolov3_has_the_papers_blocks_and_prunable_convolutions():
    network = narrow()
    table = trace(network, network.input_shape)
    cut_layers = {m.module for group in table.groups for m in group.members if m.dim == "out"}
    convs = [layer.name for layer in table.layers if layer.kind == "conv"]
    assert len(table.blocks) == 23
    assert [len(b.layers) for b in table.blocks] == [4] * 23  # two convolutions, two batch-norms
    assert len(convs) == 75
    assert set(convs) - cut_layers == {"conv81.conv", "conv93.conv", "conv105.conv"}


def test_the_shipped_size_is_a_million_parameters():
    assert 0.9e6 < sum(p.numel() for p in yolov3_eighth().parameters()) < 1.1e6


def test_maps_have_the_sizes_of_the_three_heads():
    network = narrow()
    assert [tuple(m.shape) for m in network(images(network))] == [
        (2, 24, 2, 2),
        (2, 24, 4, 4),
        (2, 24, 8, 8),
    ]


def test_layers_compute_what_the_cfg_says():
    network, x = parts(), images(parts())
    conv = {index: getattr(network, f"conv{index}") for index in (0, 2, 5, 10)}
    first = conv[0](x)
    part = conv[2](first[:, 4:])
    pooled = F.max_pool2d(F.pad(part, (0, 1, 0, 1), value=-torch.inf), 2, 1)
    branch = conv[5](pooled)
    doubled = F.max_pool2d(F.relu(first + branch), 2, 2).repeat_interleave(2, 2)
    expected = conv[10](torch.cat([doubled.repeat_interleave(2, 3), branch], 1))
    (found,) = network(x)
    torch.testing.assert_close(found, expected)
    assert network.heads[0].anchors == ((9, 9), (4, 5))


@pytest.mark.parametrize(
    ("size", "stride", "padding", "side"), [(2, 2, 1, 7), (2, 1, 1, 6), (3, 1, 2, 6), (5, 2, 4, 9)]
)
def test_pools_have_darknets_windows(size, stride, padding, side):
    cfg = PARTS.split("# 1\n")[0] + f"[maxpool]\nsize={size}\nstride={stride}\n" + HEAD
    pool = Darknet(parse_cfg(cfg)).get_submodule("maxpool1")
    x = torch.randn(1, 2, side, side, generator=torch.Generator().manual_seed(0))
    out = (side + padding - size) // stride + 1
    expected = torch.empty(1, 2, out, out)
    for i in range(out):
        for j in range(out):
            top, left = (max(k * stride - padding // 2, 0) for k in (i, j))
            bottom, right = (k * stride - padding // 2 + size for k in (i, j))
            expected[:, :, i, j] = x[:, :, top:bottom, left:right].amax((2, 3))
    torch.testing.assert_close(pool(x), expected)


HEAD = "[convolutional]\nfilters=7\nactivation=linear\n[yolo]\nanchors=1,1\nclasses=2\n"


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_that_write_nothing_can_be_cut(name):
    network = NETWORKS[name]()
    table = trace(network, network.input_shape)
    kept = random_kept(table)
    for group, channels in zip(table.groups, kept, strict=True):
        dropped = np.setdiff1d(np.arange(group.size), channels)
        for member in group.members:
            module = network.get_submodule(member.module)
            if member.dim == "out" and isinstance(module, nn.BatchNorm2d):
                module.weight[member.positions[dropped].ravel()] = 0
                module.bias[member.positions[dropped].ravel()] = 0
    small = cut(network, table, kept)
    for found, expected in zip(small(images(network)), network(images(network)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_costs_are_those_of_the_cut_network(name):
    network = NETWORKS[name]()
    table = trace(network, network.input_shape)
    for seed in range(3):
        kept = random_kept(table, seed)
        small = cut(network, table, kept)
        widths = np.array([[len(channels) for channels in kept]])
        costs, real = build_costs(table, None), trace(small, network.input_shape)
        counted = float(costs["params"](table.configuration(widths))[0])
        assert counted == sum(p.numel() for p in small.parameters())
        again = build_costs(real, None)
        for cost in ("flops", "memory"):
            found = float(again[cost](real.configuration())[0])
            assert found == float(costs[cost](table.configuration(widths))[0])


def test_a_pruned_network_is_written_and_read_back(tmp_path):
    network = narrow()
    table = trace(network, network.input_shape)
    blocks = [table.blocks[i] for i in (0, 4, 5)]
    small = skip_blocks(cut(network, table, random_kept(table)), blocks, network.input_shape)
    save_darknet(small, network, tmp_path / "small.cfg")
    back = load_darknet(tmp_path / "small.cfg", tmp_path / "small.weights")
    assert len(back.sections) == len(network.sections) - 9
    for found, expected in zip(back(images(network)), small(images(network)), strict=True):
        torch.testing.assert_close(found, expected)


NET = "[net]\nwidth=16\nheight=16\n"
CONV = "[convolutional]\nbatch_normalize=1\nfilters=16\nsize=3\npad=1\nactivation=leaky\n"
POOL = "[maxpool]\nsize=3\nstride=1\n"
HALF = CONV.replace("filters=16", "filters=8")
# What the branch of a block may hold besides convolutions: sections, and how far back it starts.
BRANCHES = {
    "pool first": (POOL + CONV, -3),
    "pool in the middle": (HALF + POOL + CONV, -4),
    "dropout": (HALF + "[dropout]\n" + CONV, -4),
    "joined": (HALF + HALF + "[route]\nlayers=-1,-2\n", -4),
    "joined and mixed": (HALF + HALF + "[route]\nlayers=-1,-2\n" + CONV, -5),
    "spatial pyramid": (
        HALF + POOL + "[route]\nlayers=-2\n" + POOL.replace("3", "5") + "[route]\nlayers=-1,-3\n",
        -6,
    ),
    "groups": (CONV + "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n" + CONV, -4),
    "depthwise": (CONV.replace("size=3", "size=3\ngroups=16") + CONV, -3),
    "a block": (CONV + CONV + "[shortcut]\nfrom=-2\n" + CONV, -5),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_whatever_a_skipped_block_holds_is_left_out(tmp_path, name):
    branch, start = BRANCHES[name]
    text = NET + CONV + CONV + branch + f"[shortcut]\nfrom={start}\n" + CONV + HEAD
    network = shaken(Darknet(parse_cfg(text)))
    table = trace(network, network.input_shape)
    (block,) = [block for block in table.blocks if block.addition == table.blocks[-1].addition]
    for kept in (table.blocks[:-1], []):
        small = skip_blocks(
            cut(network, table, random_kept(table)), [*kept, block], network.input_shape
        )
        save_darknet(small, network, tmp_path / "small.cfg")
        back = load_darknet(tmp_path / "small.cfg", tmp_path / "small.weights")
        assert len(back.sections) == 6
        for found, expected in zip(back(images(network)), small(images(network)), strict=True):
            torch.testing.assert_close(found, expected)


def test_a_block_that_does_not_stand_behind_its_source_is_left_out(tmp_path):
    """The layers before the branch are read by another layer alone: a route leads past them."""
    text = (
        *(NET, CONV, CONV, "[route]\nlayers=0\n", CONV, "[shortcut]\nfrom=0\n", CONV),
        *("[route]\nlayers=-1,1\n", HEAD),
    )
    network = shaken(Darknet(parse_cfg("".join(text))))
    table = trace(network, network.input_shape)
    small = skip_blocks(network, table.blocks, network.input_shape)
    save_darknet(small, network, tmp_path / "small.cfg")
    back = load_darknet(tmp_path / "small.cfg", tmp_path / "small.weights")
    for found, expected in zip(back(images(network)), small(images(network)), strict=True):
        torch.testing.assert_close(found, expected)


def test_what_no_cfg_says_is_refused(tmp_path):
    text = NET + CONV + CONV + "[shortcut]\nfrom=-2\nactivation=relu\n" + HEAD
    network = shaken(Darknet(parse_cfg(text)))
    blocks = trace(network, network.input_shape).blocks
    small = skip_blocks(network, blocks, network.input_shape)
    with pytest.raises(UserError, match="shortcut.*activation"):
        save_darknet(small, network, tmp_path / "small.cfg")
    changed = parts()
    changed.get_submodule("conv0.activation").negative_slope = 0.3
    with pytest.raises(UserError, match="no Darknet cfg"):
        save_darknet(changed, parts(), tmp_path / "small.cfg")
    assert not list(tmp_path.iterdir())


def test_strides_may_differ_along_height_and_width():
    conv = CONV.replace("pad=1", "pad=1\nstride=4\nstride_x=2\nstride_y=1")
    pool = "[maxpool]\nsize=2\nstride=2\nstride_x=1\nstride_y=2\n"
    network = shaken(Darknet(parse_cfg(NET + conv + pool + HEAD)))
    x = images(network)
    layer = network.get_submodule("conv0")
    first = F.conv2d(x, layer.conv.weight, stride=(1, 2), padding=1)
    first = F.leaky_relu(layer.norm(first), 0.1)
    assert first.shape[2:] == (16, 8)
    pooled = F.max_pool2d(F.pad(first, (0, 1, 0, 1), value=-torch.inf), 2, (2, 1))
    (found,) = network(x)
    assert found.shape[2:] == (8, 8)
    torch.testing.assert_close(found, network.get_submodule("conv2")(pooled))


def test_a_route_takes_the_same_part_of_every_input():
    """As in Darknet's route_layer.c, and not a part of all inputs side by side."""
    text = NET + CONV + HALF + "[route]\nlayers=-1,-2\ngroups=2\ngroup_id=1\n" + HEAD
    network = shaken(Darknet(parse_cfg(text)))
    first = network.get_submodule("conv0")(images(network))
    second = network.get_submodule("conv1")(first)
    joined = torch.cat([second[:, 4:], first[:, 8:]], 1)
    torch.testing.assert_close(network(images(network))[0], network.get_submodule("conv3")(joined))


def test_cross_iteration_batch_norm_is_batch_norm_at_inference():
    text = NET + CONV.replace("batch_normalize=1", "cbn=1") + HEAD
    assert isinstance(Darknet(parse_cfg(text)).get_submodule("conv0.norm"), nn.BatchNorm2d)


def test_a_cfg_is_written_and_read_back():
    sections = parse_cfg(yolov3_cfg(3))
    again = parse_cfg(write_cfg(sections))
    assert [(s.kind, s.options) for s in again] == [(s.kind, s.options) for s in sections]


@pytest.fixture
def saved(tmp_path):
    network = parts()
    save_darknet(network, network, tmp_path / "net.cfg")
    return network, tmp_path / "net.weights"


def test_both_header_versions_are_read(saved):
    network, path = saved
    body = path.read_bytes()[20:]
    path.write_bytes(struct.pack("<iiii", 0, 1, 0, 7) + body)  # seen has 32 bits before 0.2
    other = Darknet(network.sections)
    load_weights(other, path)
    for key, value in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(other.state_dict()[key], value)


@pytest.mark.parametrize(("change", "word"), [(b"\0" * 8, "expected"), (b"\0" * 3, "cut off")])
def test_weights_of_another_length_are_refused(saved, change, word):
    network, path = saved
    path.write_bytes(path.read_bytes() + change)
    with pytest.raises(UserError, match=word) as error:
        load_weights(network, path)
    if word == "expected":
        count = sum(v.numel() for k, v in network.state_dict().items() if "num_" not in k)
        assert f"{count:,}" in str(error.value) and f"{count + 2:,}" in str(error.value)


@pytest.mark.parametrize("name", ["no such file", "text"])
def test_files_that_are_no_weights_are_refused(tmp_path, name):
    if name == "text":
        (tmp_path / name).write_text("hello")
    with pytest.raises((ValueError, FileNotFoundError), match=str(tmp_path)):
        load_weights(parts(), tmp_path / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[convolutional]\nfilters=3", "first section"),
        ("[net]\nwidth=32\nhello", "cfg:3: neither"),
        ("[net]\n\n[gru]\n", r"cfg:3: \[gru\] unknown section"),
        ("[net]\n[yolo]\nnew_coords=1", r"cfg:2: \[yolo\] new_coords=1"),
        ("[net]\nwidth=4\n" + HEAD, r"cfg:1: \[net\] height= .*nothing"),
        (PARTS.replace("filters=14", "filters=13"), r"\[yolo\] needs 14 channels .* got 13"),
        (PARTS.replace("from=0", "from=9"), r"\[shortcut\] reads layers \(9,\)"),
        (PARTS.replace("from=0", "from=2"), r"\[shortcut\] .*8 and 4 channels"),
        (PARTS.replace("groups=4", "groups=3"), r"\[convolutional\] groups=3"),
        (PARTS.replace("=mish", "=mush"), "did you mean 'mish'"),
        (PARTS.replace("mask=1,0", "mask=1,2"), r"\[yolo\] mask \(1, 2\)"),
        (PARTS.split("[yolo]")[0], "no .yolo. section"),
        (PARTS.replace("groups=4", "groups=0"), "cfg:20: .convolutional. groups= "),
        (PARTS.replace("filters=8", "filters=1000000000"), "filters= .*65,536"),
        (PARTS.replace("width=32", "width=0"), r"\[net\] width= .*got 0"),
        (PARTS.replace("size=5", "size=5\nstride_x=-2\nstride=-1"), "stride= "),
        (PARTS.replace("4,5, 9,9", "4,5, 9,x"), r"\[yolo\] anchors= .*numbers separated"),
        (PARTS.replace("4,5, 9,9", "4,5, 9"), "anchors= .*pairs"),
        (PARTS.replace("4,5, 9,9", "4,5, 9,inf"), "anchors= .*pairs"),
        (
            PARTS.replace("layers=-1, 5", "layers=-1, 7"),
            "16x16 and 8x8",
        ),
        (PARTS.replace("[dropout]", "[shortcut]\nfrom=-1\nalpha=.5"), "alpha=.5"),
        (PARTS.replace("size=5", "size=5\nflipped=1"), "flipped=1"),
        (
            PARTS.replace("size=5", "size=5\ndilation=2"),
            "dilation=2",
        ),
        (PARTS.replace("size=5", "size=5\nshare_index=-1"), "share_index=-1"),
        (
            NET + CONV + "[route]\nlayers=-1,-1\n" * 30 + HEAD,
            "131,072x16x16",
        ),
    ],
)
def test_a_cfg_that_is_not_understood_is_refused_by_its_line(text, message):
    with pytest.raises(UserError, match=message):
        Darknet(parse_cfg(text))


def test_options_that_change_nothing_are_read():
    text = PARTS.replace("size=1\nactivation", "size=1\ndilation=2\nstopbackward=1\nactivation")
    text = text.replace("[upsample]\nstride=2", "[upsample]\nstride=2\nscale=1.0")
    assert Darknet(parse_cfg("\ufeff".encode().decode("utf-8-sig") + text)).heads


VALUES = st.sampled_from(
    ["0", "1", "2", "-1", "-3", "1e9", "99999999999", "x", "", "nan", "inf", "1,2", "-1,-2", "0.5"]
)
KEYS = st.sampled_from(
    ["width", "height", "channels", "filters", "size", "stride", "stride_x", "stride_y", "pad"]
    + ["padding", "groups", "group_id", "layers", "from", "activation", "mask", "anchors"]
    + ["classes", "scale_x_y", "batch_normalize", "dilation"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 80), KEYS, VALUES), max_size=3), st.data())
def test_a_broken_cfg_is_read_or_named(changes, data):
    lines = PARTS.splitlines()
    for place, key, value in changes:
        lines.insert(place, f"{key}={value}")
    if data.draw(st.booleans()):
        del lines[data.draw(st.integers(0, len(lines) - 1))]
    try:
        network = Darknet(parse_cfg("\n".join(lines), "broken.cfg")).eval()
    except UserError as error:
        assert "broken.cfg" in str(error)
    else:
        if np.prod(network.input_shape) < 10_000:
            with torch.inference_mode():
                assert len(network(images(network, 1))) == 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3), st.integers(0))
def test_broken_weights_are_read_or_named(tmp_path_factory, changes, end):
    path = tmp_path_factory.getbasetemp() / "broken.weights"
    network = parts()
    save_darknet(network, network, path.with_suffix(".cfg"))
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(content[: end % (2 * len(content))])
    try:
        load_weights(network, path)
    except UserError as error:
        assert "broken.weights" in str(error)
    else:
        assert all(torch.isfinite(value).all() for value in network.state_dict().values())


@pytest.mark.parametrize("name", ["yolo-fastest-1.1", "yolo-fastest-1.1-xl"])
def test_public_files_load_and_trace(name):
    folder = data_home() / "coco-yolo"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set PRUNE_GYM_HOME")
    network = load_darknet(folder / f"{name}.cfg", folder / f"{name}.weights")
    table = trace(network, network.input_shape)
    cut_layers = {m.module for group in table.groups for m in group.members if m.dim == "out"}
    convs = {layer.name for layer in table.layers if layer.has_weight}
    assert len(table.blocks) == 18
    assert convs - cut_layers == {"conv120.conv", "conv129.conv"}  # the heads
