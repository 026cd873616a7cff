import dataclasses
import functools
import http.server
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from real_data import public_file
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from prune_gym import datasets, models
from prune_gym.compression.network_file import load_network, save_network
from prune_gym.compression.surgery import cut, first_channels
from prune_gym.costs import build_costs
from prune_gym.errors import MissingFileError, UserError
from prune_gym.evaluation.evaluator import accuracy
from prune_gym.graph.trace import trace
from prune_gym.models import public_weights
from prune_gym.models.public_weights import PUBLIC, PublicWeights, load_public
from prune_gym.models.weights_file import save_weights

# (multiply-adds, parameters, decisions, residual blocks that can be skipped)
PUBLISHED = {
    "vgg16": (313_201_664, 14_724_042, 13, 0),
    "vgg19": (398_136_320, 20_035_018, 16, 0),
    "resnet20": (40_551_040, 269_722, 12, 7),
    "resnet32": (68_862_592, 464_154, 18, 13),
    "resnet56": (125_485_696, 853_018, 30, 25),
    "resnet110": (252_887_680, 1_727_962, 57, 52),
    "resnet18": (1_814_073_344, 11_689_512, 12, 5),
    "resnet50": (4_089_184_256, 25_557_032, 37, 12),
    "mobilenet_v1": (46_354_432, 3_217_226, 14, 0),
    "mobilenet_v1_imagenet": (568_740_352, 4_231_976, 14, 0),
    "mobilenet_v2": (87_976_448, 2_236_682, 25, 10),
    "mobilenet_v2_imagenet": (300_774_272, 3_504_872, 25, 10),
    "vit_tiny": (27_443_840, 369_626, 17, 12),
    "deit_tiny": (1_253_683_200, 5_717_416, 25, 24),
}


@functools.cache
def network_of(name):
    large = models.NETWORKS[name].input_shape[1] == 224
    return models.build(name, 1000 if large else 10).eval().requires_grad_(False)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_figures(name):
    table = trace(network_of(name), models.NETWORKS[name].input_shape)
    costs, full = build_costs(table, None), table.configuration()
    found = costs["flops"](full)[0], costs["params"](full)[0], len(table.groups), len(table.blocks)
    assert found == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
@given(st.data())
@settings(max_examples=3, deadline=None)
def test_after_random_strategies(name, data):
    net, shape = network_of(name), small_shape(name)
    table = _small_table(name)
    widths = np.array(data.draw(st.tuples(*(st.integers(1, g.size) for g in table.groups))))
    candidate = cut(net, table, first_channels(table, widths))
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        logits = candidate(images)
    classes = 1000 if models.NETWORKS[name].input_shape[1] == 224 else 10
    assert logits.shape == (2, classes) and torch.isfinite(logits).all()
    costs, configuration = build_costs(table, None), table.configuration(widths[None])
    assert (
        costs["flops"](configuration)[0] == counter.get_total_flops() / 4
    )  # two images, two per add
    assert costs["params"](configuration)[0] == sum(p.numel() for p in candidate.parameters())


@functools.cache
def _small_table(name):
    return trace(network_of(name), small_shape(name))


def small_shape(name):
    """Return a small shape, but for position embeddings, which fix the size of images."""
    return models.NETWORKS[name].input_shape if name == "deit_tiny" else (3, 32, 32)


KEYS = {
    "resnet56": (332, ["layer1.0.conv1.weight", "layer2.0.bn2.running_var", "linear.bias"]),
    "resnet18": (122, ["layer2.0.downsample.1.bias", "layer4.1.conv2.weight", "fc.weight"]),
    "resnet50": (320, ["layer1.0.downsample.0.weight", "layer3.5.bn3.weight", "fc.bias"]),
    "mobilenet_v2_imagenet": (
        314,
        ["features.0.0.weight", "features.1.conv.1.weight", "features.1.conv.0.0.weight"]
        + ["features.17.conv.2.weight", "features.18.1.bias", "classifier.1.bias"],
    ),
    "mobilenet_v1": (
        164,
        ["conv1.0.weight", "features.0.3.weight", "features.12.4.bias", "classifier.0.weight"],
    ),
    "vgg19": (98, ["features.0.weight", "features.50.weight", "classifier.bias"]),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_are_the_public_ones(name):
    count, some = KEYS[name]
    keys = network_of(name).state_dict().keys()
    assert len(keys) == count and keys >= set(some)


@pytest.mark.parametrize("seed", range(4))
def test_a_pruned_padded_network_is_saved_and_loaded(seed, tmp_path):
    """Where a shortcut is padded depends on which channels were kept, not on how many."""
    net = models.build("resnet20", 10).eval()
    table, rng = trace(net, (3, 32, 32)), np.random.default_rng(seed)
    widths = np.maximum(table.full // 3, 1)
    chosen = zip(table.full, widths, strict=True)
    kept = [np.sort(rng.permutation(full)[:width]) for full, width in chosen]
    small = cut(net, table, kept)
    path = tmp_path / "small.safetensors"
    configuration = table.configuration(widths[None])
    save_network(small, path, name="resnet20", num_classes=10, configuration=configuration)
    loaded, images = load_network(path), torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded(images), small(images))
    file = safe_open(path, framework="pt")
    recipe = {key: value for key, value in file.metadata().items() if key != "pads"}
    save_file({key: file.get_tensor(key) for key in file.keys()}, path, recipe)  # noqa: SIM118
    with pytest.raises(UserError, match="earlier version"):
        load_network(path)


@pytest.mark.parametrize(
    ("name", "of"),
    [
        *((name, "digits") for name in ("resnet20", "resnet56", "mobilenet_v1", "vit_tiny")),
        *((name, "digit-pairs") for name in ("vgg16_half", "resnet20")),
    ],
)
def test_shipped_weights_are_as_good_as_their_header_says(name, of):
    with safe_open(models.weights_path(name, of), framework="pt") as file:
        measured = float(file.metadata()["search_accuracy"])
    data = datasets.load(of)
    part = datasets.Split(data.search.images[:500], data.search.labels[:500])
    found = accuracy(models.pretrained(name, of, data.num_classes), data, part)
    assert measured > 0.92 and abs(found - measured) < 0.02


def test_shipped_weights_for_cifar_are_as_good_as_their_header_says(cifar):
    with safe_open(models.weights_path("resnet20", "cifar10"), framework="pt") as file:
        assert float(file.metadata()["test_accuracy"]) == 0.9170
    part = datasets.Split(cifar.test.images[:1000], cifar.test.labels[:1000])
    found = accuracy(models.pretrained("resnet20", "cifar10", 10), cifar, part)
    assert abs(found - 0.917) < 0.02


@pytest.mark.parametrize(
    ("name", "images", "measured"), [("resnet20_public", 1000, 0.9173), ("resnet56", 500, 0.9339)]
)
def test_public_weights_have_their_accuracy(cifar, name, images, measured):
    public_file(PUBLIC[name, "cifar10"].file)
    net = models.pretrained(name, "cifar10", 10)
    part = datasets.Split(cifar.test.images[:images], cifar.test.labels[:images])
    data = models.normalized_for(name, cifar)
    assert data.std == (0.229, 0.224, 0.225) and data.search is cifar.search
    assert abs(accuracy(net, data, part) - measured) < 0.02


def test_shipped_weights_keep_the_normalisation_of_their_data():
    data = datasets.load("digits")
    assert models.normalized_for("resnet20", data) is data


@pytest.fixture
def homes(tmp_path, monkeypatch):
    """A data home and a cache folder, both empty."""
    monkeypatch.setenv("PRUNE_GYM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "home" / "weights", tmp_path / "cache" / "prune-gym" / "weights"


@pytest.fixture(params=["state_dict", "model"])
def published(request, tmp_path):
    """A file of weights as published: of ResNet-20, trained on several GPUs, on a web server."""
    folder = tmp_path / "www"
    folder.mkdir()
    net = models.build("resnet20", 10)
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    torch.save({request.param: state, "best_prec1": 91.0}, folder / "net.th")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    digest = public_weights.pooch.file_hash(str(folder / "net.th"))
    yield net, PublicWeights("net.th", f"http://127.0.0.1:{server.server_port}/", digest[:8])
    server.shutdown()
    server.server_close()


def test_public_weights_are_downloaded_once_and_then_found_offline(published, homes):
    net, weights = published
    loaded = models.build("resnet20", 10)
    load_public(loaded, weights)
    assert torch.equal(loaded.linear.weight, net.linear.weight)
    assert (homes[0] / "net.th").is_file()
    offline = PublicWeights(weights.file, "http://127.0.0.1:9/", weights.sha256)
    load_public(models.build("resnet20", 10), offline)


def test_what_cannot_be_downloaded_says_where_to_put_it(homes):
    weights = PublicWeights("net-12345678.th", "http://127.0.0.1:9/", "12345678")
    with pytest.raises(MissingFileError, match="net-12345678.th .*home/weights"):
        load_public(models.build("resnet20", 10), weights)


def test_another_file_of_that_name_is_refused(published, homes):
    homes[0].mkdir(parents=True)
    (homes[0] / "net.th").write_bytes(b"something else")
    with pytest.raises(UserError, match="net.th: .*SHA-256"):
        load_public(models.build("resnet20", 10), published[1])


def test_public_weights_of_another_network_are_refused(published, homes):
    with pytest.raises(UserError, match="'layer1.3.bn1.bias'"):
        load_public(models.build("resnet56", 10), published[1])


def test_weights_of_ones_own_in_the_data_home(homes):
    with pytest.raises(MissingFileError, match="vgg19 on fruit.*prune-gym pretrain"):
        models.pretrained("vgg19", "fruit", 3)
    net = models.build("resnet20", 3)
    save_weights(net, homes[0] / "resnet20-fruit.safetensors", {})
    assert models.weights_on_disk("resnet20", "fruit") == homes[0] / "resnet20-fruit.safetensors"
    found = models.pretrained("resnet20", "fruit", 3)
    assert torch.equal(found.linear.weight, net.linear.weight.half().float())


@pytest.mark.parametrize("pair", [("resnet56", "cifar10"), ("mobilenet_v2", "cifar10")])
def test_the_users_own_weights_win_over_public_ones(homes, pair):
    name, data = pair
    homes[0].mkdir(parents=True)
    (homes[0] / PUBLIC[pair].file).write_bytes(b"not looked at")
    assert models.weights_on_disk(name, data) == homes[0] / PUBLIC[pair].file
    net, digits = models.build(name, 10), datasets.load("digits")
    public_data = models.normalized_for(name, dataclasses.replace(digits, name=data))
    assert public_data.std == PUBLIC[pair].std and models.leakage_warning(name, data)

    own = homes[0] / f"{name}-{data}.safetensors"
    save_weights(net, own, {})
    assert models.weights_on_disk(name, data) == own
    found = models.pretrained(name, data, 10).state_dict()
    for key, value in net.half().float().state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(found[key], value)
    own_data = models.normalized_for(name, dataclasses.replace(digits, name=data))
    assert own_data.std == digits.std and not models.leakage_warning(name, data)


def test_public_weights_that_a_data_home_holds_are_whole():
    for weights in PUBLIC.values():
        if len(weights.sha256) == 64 and (path := public_weights.on_disk(weights)):
            assert public_weights.find(weights) == path


@pytest.mark.parametrize("pair", PUBLIC, ids="-".join)
def test_every_public_file_is_of_a_network_and_named_by_its_hash(pair):
    assert pair[0] in models.NETWORKS
    weights = PUBLIC[pair]
    assert f"-{weights.sha256[:8]}." in weights.file
    assert len(weights.sha256) == 64 or pair[0].startswith(("mobilenet_v2", "deit"))


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        (("resnet56", "cifar10"), True),
        (("resnet20_public", "cifar10"), True),
        (("resnet20", "cifar10"), False),
        (("vgg16", "cifar10"), False),
        (("vgg16", "digits"), False),
    ],
)
def test_weights_that_know_the_search_split_are_told(pair, told):
    assert (
        "trained on the images that candidates are scored on" in models.leakage_warning(*pair)
    ) == told
