import copy

import numpy as np
import pytest
import torch
from nets import make
from playing import constant, play
from torch import nn
from torch.nn import functional as F

from prune_gym._utils.device import to_dtype
from prune_gym.compression.calibration import calibrate
from prune_gym.compression.network_file import load_network, save_network
from prune_gym.compression.original import Original
from prune_gym.compression.repair import cut_and_repair
from prune_gym.envs.make import compression_env
from prune_gym.errors import UserError
from prune_gym.evaluation.task import make_evaluator
from prune_gym.graph.trace import trace
from prune_gym.training.finetune import finetune_candidate
from prune_gym.training.recipe import load_recipe


def state_of(net):
    """Return all that can be seen of a network."""
    return (
        [(name, module.training) for name, module in net.named_modules()],
        [(name, p.requires_grad, p.dtype, p.data_ptr()) for name, p in net.named_parameters()],
        {key: value.tolist() for key, value in net.state_dict().items()},
    )


@pytest.fixture
def own():
    """A network in training, with a frozen layer and a part in eval mode."""
    net = make("residual").requires_grad_(True).train()
    net.stem.eval()
    net.out.weight.requires_grad_(False)
    return net


def test_an_evaluator_leaves_ones_own_network_as_it_was(own, tiny_data):
    before = state_of(own)
    evaluator = make_evaluator(own, tiny_data, "merge+batch_norm")
    table = evaluator.table
    evaluator.accuracy(table.configuration(table.full[None] // 2))
    assert state_of(own) == before


def test_an_environment_leaves_ones_own_network_as_it_was(own, tiny_data):
    before = state_of(own)
    env = compression_env(own, tiny_data, latency=None, round_to=1)
    _, _, infos = play(env, constant(0.0))
    with torch.no_grad():
        for parameter in env.problem.apply(infos[-1]["strategy"]).parameters():
            parameter.zero_()
    assert state_of(own) == before


def test_a_network_that_was_trained_channels_last_is_the_same_to_an_evaluator(own, tiny_data):
    other = copy.deepcopy(own).to(memory_format=torch.channels_last)
    same, evaluator = (make_evaluator(net, tiny_data, "least_squares") for net in (own, other))
    half = evaluator.table.configuration(evaluator.table.full[None] // 2)
    assert evaluator.accuracy(half) == same.accuracy(half)
    strides = zip(own.parameters(), evaluator.network.parameters(), strict=True)
    assert all(ours.stride() == theirs.stride() for ours, theirs in strides)


def test_training_ones_own_network_on_changes_no_evaluator(own, tiny_data):
    evaluator = make_evaluator(own, tiny_data, "none")
    full = evaluator.table.configuration()
    before = evaluator.score(evaluator.candidate(full), tiny_data.search)
    with torch.no_grad():
        own.out.weight.zero_()
        own.out.bias.copy_(torch.arange(4.0))
    assert evaluator.network.out.weight.any()
    again = evaluator.score(evaluator.candidate(full), tiny_data.search)
    assert again == before


def test_a_network_of_double_precision_is_scored_in_single(own, tiny_data):
    evaluator = make_evaluator(own.double(), tiny_data, "merge+batch_norm")
    assert {p.dtype for p in evaluator.network.parameters()} == {torch.float32}
    assert {p.dtype for p in own.parameters()} == {torch.float64}


class Turned(nn.Module):
    """Turns images by a complex number before it looks at them; only its real part is float."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.out = nn.Linear(8, 4)
        self.register_buffer("turn", torch.tensor([0.2 + 0.9j]))

    def forward(self, x):
        x = torch.view_as_real(x * self.turn * (1 - 1j)).sum(-1)
        return self.out(F.relu(self.second(F.relu(self.first(x)))).mean((2, 3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_complex_buffers_keep_their_imaginary_parts(dtype, tiny_data):
    net = to_dtype(Turned(), dtype).eval()
    evaluator = make_evaluator(net, tiny_data, "none")
    images, fast = evaluator.images[:8], evaluator.fast(evaluator.network)
    assert fast.turn.dtype == torch.complex64
    torch.testing.assert_close(fast(images), net(images.to(dtype)).float(), atol=1e-5, rtol=1e-4)


class Masked(nn.Module):
    """A network that counts its calls in a buffer, and has a mask of infinite values."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.out = nn.Linear(8, 4)
        self.register_buffer("mask", torch.triu(torch.full((4, 4), float("-inf")), 1))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.calls += 1
        x = (self.second(F.relu(self.first(x))) + self.mask).softmax(-1)
        return self.out(x[..., -1].mean(-1))


def save(small, file, env, strategy):
    """Write the network of a strategy into a file."""
    save_network(
        small,
        file,
        name="own",
        num_classes=4,
        configuration=env.problem.configure(strategy),
        input_shape=env.problem.evaluator.images.shape[1:],
    )


def test_buffers_may_count_calls_and_hold_infinite_masks(tiny_data, tmp_path):
    net, file = Masked().eval(), tmp_path / "small.safetensors"
    env = compression_env(net, tiny_data, latency=None, round_to=1)
    strategy = play(env, constant(0.0))[2][-1]["strategy"]
    assert env.problem.validate(strategy).reproduced
    assert isinstance(net.calls, torch.Tensor) and net.calls == 0
    small = env.problem.apply(strategy)
    save(small, file, env, strategy)
    loaded, images = load_network(file, lambda classes: Masked()), env.problem.evaluator.images[:4]
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), small(images))
    with torch.no_grad():
        net.second.bias[0] = float("inf")
    with pytest.raises(UserError, match="'second.bias' holds NaN or infinite"):
        make_evaluator(net, tiny_data, "none")


class Versioned(nn.Module):
    """A network whose state dict holds what is no tensor, and a weight with two names."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)
        self.third, self.fourth = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3)
        self.third.weight, self.out = self.second.weight, nn.Linear(8, 4)
        self.version = 1

    def forward(self, x):
        x = F.relu(self.second(F.relu(self.first(x))))
        return self.out(F.relu(self.fourth(F.relu(self.third(x)))).mean((2, 3)))

    def get_extra_state(self):
        return {"version": self.version}

    def set_extra_state(self, state):
        self.version = state["version"]


def test_extra_state_and_weights_with_two_names_reach_the_file(tiny_data, tmp_path):
    net = Versioned().eval()
    env = compression_env(net, tiny_data, latency=None, round_to=1)
    strategy = play(env, constant(0.0))[2][-1]["strategy"]
    small, file = env.problem.apply(strategy), tmp_path / "small.safetensors"
    assert small.version == 1 and small.third.weight is small.second.weight
    save(small, file, env, strategy)
    images = env.problem.evaluator.images[:4]
    with torch.no_grad():
        found = load_network(file, lambda classes: Versioned())(images)
        torch.testing.assert_close(found, small(images))
    parts = env.problem.evaluator, env.problem.configure(strategy), load_recipe("short", epochs=1)
    assert finetune_candidate(*parts, tmp_path / "checkpoint").best.version == 1


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "prune-gym"


def of_activation(activation):
    """Return a network whose weights do not depend on the activation."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3)
            self.norm, self.out = nn.BatchNorm2d(6), nn.Linear(6, 4)
            if isinstance(activation, nn.Module):
                self.activation = activation

        def forward(self, x):
            x = self.first(x)
            x = self.activation(x) if isinstance(activation, nn.Module) else activation(x)
            return self.out(F.relu(self.norm(self.second(x))).mean((2, 3)))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net().eval().requires_grad_(False)


def same_calibration(one, other):
    pairs = [(one.moments[key], other.moments[key]) for key in one.moments]
    pairs += [*zip(one.orders, other.orders, strict=True)]
    pairs += [*zip(one.errors, other.errors, strict=True)]
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "activations",
    [
        (nn.ReLU(), nn.SiLU()),
        (nn.LeakyReLU(0.01), nn.LeakyReLU(0.5)),
        (F.relu, F.silu),
        (lambda x: F.leaky_relu(x, 0.01), lambda x: F.leaky_relu(x, 0.5)),
    ],
    ids=["modules", "arguments of modules", "functions", "arguments of functions"],
)
def test_equal_weights_in_another_architecture_are_calibrated_anew(activations, cache, tiny_data):
    nets = [of_activation(activation) for activation in activations]
    states = [net.state_dict() for net in nets]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    one, other = (make_evaluator(net, tiny_data, "none") for net in nets)
    assert len(list(cache.glob("calibration-*.npz"))) == 2
    assert not same_calibration(one.calibration, other.calibration)
    fresh = calibrate(other.network, other.table, other.images)
    assert same_calibration(other.calibration, fresh)


def test_an_equal_network_is_calibrated_once(cache, tiny_data):
    net = of_activation(nn.ReLU())
    one = make_evaluator(net, tiny_data, "none")
    (file,) = cache.glob("calibration-*.npz")
    written = file.stat().st_mtime_ns
    other = make_evaluator(copy.deepcopy(net), tiny_data, "merge")
    assert same_calibration(one.calibration, other.calibration)
    assert [each.stat().st_mtime_ns for each in cache.iterdir()] == [written]


def test_a_calibration_by_another_rule_is_not_read_back(cache, tiny_data, monkeypatch):
    net = of_activation(nn.ReLU())
    make_evaluator(net, tiny_data, "none")
    monkeypatch.setattr("prune_gym.compression.calibration.VERSION", -1)
    make_evaluator(net, tiny_data, "none")
    assert len(list(cache.glob("calibration-*.npz"))) == 2


def test_a_large_network_is_calibrated_on_some_of_the_images(cache, tiny_data, monkeypatch):
    monkeypatch.setattr("prune_gym.compression.calibration.MULTIPLY_ADDS", 1)
    monkeypatch.setattr("prune_gym.compression.calibration.LEAST_IMAGES", 50)
    evaluator = make_evaluator(of_activation(nn.ReLU()), tiny_data, "none")
    some = evaluator.images[:: len(evaluator.images) // 50]
    assert len(some) < len(evaluator.images)
    on_some = calibrate(evaluator.network, evaluator.table, some)
    assert same_calibration(evaluator.calibration, on_some)


def wide():
    """129 channels of 8x8 pixels are 8,256 inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Linear(129 * 64, 4)
        net = nn.Sequential(nn.Conv2d(3, 129, 3, padding=1), nn.ReLU(), nn.Flatten(), head)
    return net.eval().requires_grad_(False)


def test_of_a_wide_flattened_map_each_place_has_its_statistics():
    net, images = wide(), torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    calibration = calibrate(net, trace(net, (3, 8, 8)), images)
    maps = net[:2](images)
    assert calibration.moments["3"].shape == (64, 1, 129, 129)
    at = maps[:, :, 1, 2]
    torch.testing.assert_close(torch.from_numpy(calibration.moments["3"][10, 0]), at.T @ at)


def test_a_wide_flattened_map_is_ranked_as_a_narrow_one_is(monkeypatch):
    net, images = wide(), torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    table = trace(net, (3, 8, 8))
    by_place = calibrate(net, table, images)
    monkeypatch.setattr("prune_gym.compression.calibration.MAX_INPUTS", 10_000)
    whole = calibrate(net, table, images)
    assert whole.moments["3"].shape == (8256, 8256)
    assert np.array_equal(by_place.orders[0][:40], whole.orders[0][:40])
    np.testing.assert_allclose(by_place.errors[0], whole.errors[0], atol=1e-5)


def test_what_a_wide_flattened_map_loses_is_made_up_for():
    net, images = wide(), torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    table = trace(net, (3, 8, 8))
    calibration = calibrate(net, table, images)
    kept = [np.sort(calibration.orders[0][:40])]
    expected = net(images)
    error = {}
    for repair in ("none", "merge", "least_squares"):
        small = cut_and_repair(Original(net, table, calibration, images), kept, repair)
        error[repair] = float((small(images) - expected).square().mean())
    assert error["merge"] < 0.1 * error["none"]
    assert error["least_squares"] < 0.1 * error["none"]


def test_a_layer_that_reads_too_many_channels_is_named():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 8_193), nn.ReLU(), nn.Linear(8_193, 4)).eval()
    table = trace(net, (3, 1, 1))
    with pytest.raises(UserError, match="'3'.*8,193.*8,192"):
        calibrate(net, table, torch.zeros(2, 3, 1, 1))


def test_many_inputs_that_are_never_cut_are_no_matter():
    """The images themselves: nothing is kept of them."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 6), nn.ReLU(), nn.Linear(6, 4))
    net.eval().requires_grad_(False)
    table = trace(net, (3, 64, 64))
    calibration = calibrate(net, table, torch.rand(8, 3, 64, 64))
    assert {name: moment.shape for name, moment in calibration.moments.items()} == {"3": (6, 6)}


def test_a_network_that_is_narrow_for_the_multiple_is_told(tiny_data, caplog):
    names = {"latency": None, "repair": "none"}
    compression_env(make("residual"), tiny_data, **names)
    (told,) = caplog.messages
    assert told == (
        "3 of 3 channel groups have at most 2 widths to choose from, because widths are multiples "
        "of 8: give a smaller round_to, such as 2"
    )
    caplog.clear()
    compression_env(make("residual"), tiny_data, round_to=2, **names)
    compression_env("resnet20", "digits", **names)
    assert not caplog.messages


def test_two_kinds_of_masks_or_bits_are_not_told(tiny_data, caplog):
    compression_env(make("residual"), tiny_data, latency=None, decide=("weight_bits",), bits=(2, 8))
    assert not caplog.messages


class Placed(nn.Module):
    """A residual network whose forward makes a tensor that one of its layers reads."""

    def __init__(self):
        super().__init__()
        self.first, self.places = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(1, 8, 1)
        self.norm, self.branch = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1)
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        ramp = torch.linspace(-1, 1, 8).expand(1, 1, 8, 8)
        x = F.relu(self.first(x) + self.places(ramp))
        x = x + self.branch(F.relu(self.norm(x)))
        return self.out(x.mean((2, 3)))


@pytest.mark.parametrize("action", [-1.0, 0.0])
def test_a_forward_may_make_tensors(action, tiny_data):
    net = Placed().eval()
    decide = ("block", "channels")
    env = compression_env(net, tiny_data, latency=None, round_to=1, decide=decide)
    strategy = play(env, constant(action))[2][-1]["strategy"]
    assert env.problem.validate(strategy).reproduced
    assert set(net.state_dict()) == set(Placed().state_dict())
