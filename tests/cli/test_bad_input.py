import json
import os
import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from playing import constant, play
from safetensors.torch import load_file, save_file

from prune_gym import datasets
from prune_gym._utils.paths import cache_home
from prune_gym.agents import find_agent
from prune_gym.cli import main
from prune_gym.compression.network_file import load_network
from prune_gym.datasets import Split, cifar10, digits
from prune_gym.envs.make import compression_env
from prune_gym.envs.wrappers import ScalarReward
from prune_gym.errors import MissingFileError, UserError, UserTypeError
from prune_gym.experiments.benchmark.collect import RESULT
from prune_gym.models.weights_file import load_weights, save_weights
from prune_gym.search_space.strategy import load_strategy


@pytest.mark.parametrize(
    "action", [[np.nan], [np.inf], [], [0.1, 0.2], [[0.1]], 0.5, np.float32(0.1)]
)
def test_actions_that_are_no_actions(tiny, action):
    tiny.reset()
    with pytest.raises(UserError, match=r"\(1,\).*got"):
        tiny.step(np.array(action, dtype=np.float32))
    play(tiny, constant(0.0))  # nothing is left behind


@pytest.mark.parametrize("action", ["left", None, [None], [[1], [1, 2]], {"action": 0.1}])
def test_actions_that_are_no_numbers(tiny, action):
    tiny.reset()
    with pytest.raises(UserError, match=r"\(1,\).*got"):
        tiny.step(action)


@pytest.mark.parametrize("action", [-1, 8, 2.0, np.nan, np.array([1]), None])
def test_discrete_actions_out_of_range(tiny_task, action):
    env = compression_env(**tiny_task, discrete=8)
    env.reset()
    with pytest.raises(UserError, match=r"0\.\.7, got"):
        env.step(action)


def test_actions_beyond_the_bounds_are_clipped(tiny):
    ends = [play(tiny, constant(value))[2][-1]["strategy"] for value in (-7.0, -1.0)]
    assert ends[0]["decisions"] == ends[1]["decisions"]


def test_step_before_reset_and_after_the_end(tiny_task):
    env = compression_env(**tiny_task)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(1, np.float32))
    play(env, constant(-1.0))
    with pytest.raises(gym.error.ResetNeeded, match="3 decisions"):
        env.step(np.zeros(1, np.float32))
    discrete = compression_env(**tiny_task, discrete=4)
    with pytest.raises(gym.error.ResetNeeded, match="action_masks"):
        discrete.action_masks()
    play(discrete, lambda step: 0)
    assert discrete.action_masks().tolist() == [True] * 4
    with pytest.raises(ValueError, match="discrete=8"):
        env.action_masks()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objectives": ["acuracy"]}, "unknown objective 'acuracy'; did you mean 'accuracy'"),
        ({"objectives": ["flops", "flops"]}, "objectives: .*'flops', 'flops'"),
        ({"objectives": []}, r"objectives: .*got \(\)"),
        ({"network": "vgg1"}, "unknown network 'vgg1'; did you mean 'vgg1"),
        ({"data": "digit"}, "unknown data set 'digit'; did you mean 'digits'"),
        ({"repair": "merged"}, "unknown repair 'merged'; did you mean 'merge'"),
        ({"reward": "terminated"}, "unknown reward 'terminated'; did you mean 'terminal'"),
        ({"latency": "reference_cpu"}, "unknown latency table.*did you mean 'reference-cpu'"),
        (
            {"latency": None, "objectives": ["latency"]},
            "'latency' .*prune-gym profile",
        ),
        ({"min_keep": 0.0}, "min_keep: .*got 0.0"),
        ({"min_keep": 2.0}, "min_keep: .*got 2.0"),
        ({"round_to": 0}, "round_to: .*got 0"),
        ({"round_to": 2.5}, "round_to: .*got 2.5"),
        ({"min_keep": "half"}, "min_keep: .*got 'half'"),
        ({"budgets": {"flops": "0.5"}}, "budgets: .*'flops': '0.5'"),
        ({"bits": 8}, "bits: "),
        ({"discrete": 5.0}, "discrete: .*got 5.0"),
        ({"discrete": 1}, "discrete: .*got 1"),
        ({"render_mode": "humane"}, "unknown render_mode 'humane'"),
    ],
)
def test_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        compression_env(**arguments)


def test_a_named_network_with_own_data(tiny_data):
    with pytest.raises(UserTypeError, match="nn.Module"):
        compression_env(network="vgg16", data=tiny_data)


def test_weights_of_objectives(tiny):
    with pytest.raises(ValueError, match="unknown objective 'flop'; did you mean 'flops'"):
        ScalarReward(tiny, {"flop": 1.0})
    with pytest.raises(UserError, match="4 weights"):
        ScalarReward(tiny, [0.5, 0.5])
    with pytest.raises(UserError, match="4 weights"):
        ScalarReward(tiny, {"accuracy": -1.0})
    with pytest.raises(UserError, match="positive"):
        ScalarReward(tiny, [0.0] * 4)


def test_unknown_agents():
    with pytest.raises(ValueError, match="unknown agent 'randon'; did you mean 'random'"):
        find_agent("randon")
    with pytest.raises(ValueError, match="class 'TD4'; did you mean 'TD3'"):
        find_agent("sb3:TD4")


def test_unknown_ids_name_the_nearest():
    with pytest.raises(gym.error.Error, match="ChannelPrune-VGG16"):
        gym.make("ChannelPrune-VGG61-v0")


@pytest.fixture
def weights(tiny_net, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(tiny_net, path, {"about": "a test"})
    return path


def test_truncated_weights(tiny_net, weights):
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="weights.safetensors"):
        load_weights(tiny_net, weights)
    weights.write_bytes(b"")
    with pytest.raises(UserError, match="weights.safetensors"):
        load_weights(tiny_net, weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update({"classifier.bias": torch.zeros(5)}), r"\(4,\).*\(5,\)"),
        (lambda s: s.pop("classifier.bias"), "classifier.bias.*no such"),
        (lambda s: s.update({"more": torch.zeros(1)}), "'more'"),
        (lambda s: s["classifier.bias"].fill_(np.nan), "classifier.bias.*NaN"),
        (lambda s: s["classifier.weight"].fill_(np.inf), "classifier.weight.*infinite"),
    ],
)
def test_weights_of_another_network(weights, change, message):
    from nets import Tiny

    state = load_file(weights)
    change(state)
    save_file(state, weights)
    net = Tiny()
    before = net.classifier.weight.clone()
    with pytest.raises(UserError, match=message):
        load_weights(net, weights)
    assert torch.equal(net.classifier.weight, before)


def test_damaged_pruned_networks(weights, tmp_path):
    with pytest.raises(UserError, match="'prune-gym-network-2'"):
        load_network(weights)
    with pytest.raises(MissingFileError, match="prune-gym apply"):
        load_network(tmp_path / "none.safetensors")
    weights.write_bytes(b"nothing")
    with pytest.raises(UserError, match="weights.safetensors"):
        load_network(weights)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """A data home and a cache of their own, and no way to the network."""
    for variable in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("PRUNE_GYM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "home" / cifar10.FOLDER


def test_missing_cifar_offline(offline):
    with pytest.raises(FileNotFoundError) as error:
        cifar10.load()
    for word in (str(offline), "162 MB", "Offline", cifar10.MD5[4:], "PRUNE_GYM_HOME"):
        assert word in str(error.value)


def write_cifar(folder, label=0):
    folder.mkdir(parents=True)
    for name in (*cifar10.TRAIN_FILES, cifar10.TEST_FILE):
        with (folder / name).open("wb") as file:
            file.write(bytes([label]))
            file.truncate(cifar10.RECORD * cifar10.RECORDS)


def test_a_cut_cifar_file(offline):
    write_cifar(offline)
    os.truncate(offline / "data_batch_3.bin", 1_000_000)
    with pytest.raises(UserError, match="data_batch_3.bin: .*30,730,000.*1,000,000"):
        cifar10.load()


def test_a_cifar_file_with_impossible_labels(offline):
    write_cifar(offline, label=11)
    with pytest.raises(UserError, match=r"data_batch_1.bin: .*0\.\.9"):
        cifar10.load()


def test_cifar_files_with_wrong_numbers_of_images(offline):
    write_cifar(offline, label=3)
    with pytest.raises(UserError, match="5,000 "):
        cifar10.load()


@pytest.fixture(scope="session")
def digits_cache():
    """Return what a whole cache of the digits holds."""
    digits.load()
    return (cache_home() / digits.CACHE).read_bytes()


def same_digits(data):
    expected = datasets.load("digits")
    for name in ("train", "search", "test"):
        np.testing.assert_array_equal(getattr(data, name).images, getattr(expected, name).images)
        np.testing.assert_array_equal(getattr(data, name).labels, getattr(expected, name).labels)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "garbage"])
def test_a_corrupt_digits_cache_is_rebuilt(digits_cache, offline, tmp_path, damage):
    cache = tmp_path / "cache" / "prune-gym" / digits.CACHE
    half = len(digits_cache) // 2
    flipped = bytearray(digits_cache)
    flipped[half] ^= 0xFF
    cache.parent.mkdir(parents=True)
    cache.write_bytes(
        {"truncated": digits_cache[:half], "flipped": flipped, "garbage": b"PK"}[damage]
    )
    same_digits(digits.load())
    assert cache.read_bytes() == digits_cache


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_corrupt_calibration_cache_is_rebuilt(offline, tmp_path, tiny_task, damage):
    _, rewards, _ = play(compression_env(**tiny_task), constant(-0.2))
    (cache,) = (tmp_path / "cache" / "prune-gym").glob("calibration-*.npz")
    whole = cache.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    cache.write_bytes({"truncated": whole[:-200], "flipped": flipped, "empty": b""}[damage])
    np.testing.assert_array_equal(play(compression_env(**tiny_task), constant(-0.2))[1], rewards)
    assert cache.read_bytes() == whole


def test_a_cache_that_cannot_be_written_to(offline, tmp_path, monkeypatch, tiny_task):
    # A file in the place of a folder refuses root too.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("PRUNE_GYM_HOME")
    with pytest.raises(OSError):
        cache_home().mkdir(parents=True)
    same_digits(digits.load())
    play(compression_env(**tiny_task), constant(-1.0))


GOOD = {
    "format": "prune-gym-strategy-2",
    "env_id": "ChannelPrune-VGG16-v0",
    "env_kwargs": {},
    "decisions": [{"kind": "channels", "name": "features.0", "value": 8, "of": 64}],
    "metrics": {"accuracy": 0.5},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "prune-gym-strategy-9"}, "'prune-gym-strategy-2'"),
        ({"decisions": [{"name": "features.0"}]}, "damaged: it has no 'kind'"),
        ({"decisions": 3}, "damaged"),
        ({"metrics": {"accuracy": "high"}}, "damaged"),
        ({"metrics": None}, "damaged"),
        ({"env_kwargs": 5}, "damaged"),
    ],
)
def test_damaged_strategies(tmp_path, change, message):
    path = tmp_path / "strategy.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(UserError, match=message) as error:
        load_strategy(path)
    assert "strategy.json" in str(error.value)


def test_strategies_of_other_networks(tiny, env):
    _, _, infos = play(tiny, constant(0.0))
    strategy = infos[-1]["strategy"]
    with pytest.raises(UserError, match="channels.*has besides.*channels"):
        env.unwrapped.problem.apply(strategy)
    strategy["decisions"][0]["value"] = 0
    with pytest.raises(UserError, match=r"\[2, 3, .* 12\], .* 0"):
        tiny.problem.apply(strategy)
    strategy["decisions"][0]["value"] = 13
    with pytest.raises(UserError, match=r"\[2, 3, .* 12\], .* 13"):
        tiny.problem.validate(strategy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env_id": "ChannelPrune-VGG61-v0"}, "did you mean 'ChannelPrune-VGG16-v0'"),
        ({"env_id": ""}, r"unknown environment.*env\.problem\.apply\(strategy\)"),
        ({"env_kwargs": {"colour": 1}}, "env_kwargs do not fit.*colour"),
        ({}, "of another network"),
    ],
)
@pytest.mark.parametrize("command", ["apply", "validate"])
def test_strategies_that_the_command_line_refuses(tmp_path, capsys, command, change, message):
    path = tmp_path / "strategy.json"
    path.write_text(json.dumps(GOOD | change))
    assert main([command, str(path)]) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


RANDOM = ["benchmark", "--envs", "ChannelPrune-Table-v0", "--agents", "random"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["apply", "none.json"], "none.json: no such strategy file"),
        (["validate", "folder"], "folder: no such strategy file"),
        (["apply", "strategy.json", "--out", "folder"], "expected the name of a file, and folder"),
        (
            ["export", "strategy.json", "--out", "file/x.onnx"],
            "expected a folder, and .* is a file",
        ),
        (["export", "file"], "expected STRATEGY.json or NETWORK.safetensors"),
        (["finetune", "strategy.json", "--epochs", "0"], "expected a whole number >= 1, got '0'"),
        (["finetune", "strategy.json", "--seed", "-1"], "expected a whole number >= 0, got '-1'"),
        (["finetune", "folder", "--recipe", "file.toml"], "no such recipe file"),
        (["finetune", "strategy.json", "--device", "gpu"], "unknown device 'gpu'"),
        (["pretrain", "--device", "gpu"], "unknown device 'gpu'"),
        (["train", "--env", "ChannelPrune-Table-v0", "--device", "gpu"], "unknown device 'gpu'"),
        (["measure", "strategy.json", "--batch", "x"], "expected a whole number >= 1, got 'x'"),
        (["choose", "file", "--knee"], "file is no run folder"),
        (["choose", "folder", "--max", "flops=x"], "expected NAME=NUMBER or NAME=PERCENT%, got 'f"),
        (["choose", "folder", "--max", "flops=nan"], "NAME=NUMBER or NAME=PERCENT%, got 'flops=n"),
        (
            ["choose", "folder", "--preference", "flops=inf"],
            "expected NAME=NUMBER, got 'flops=inf'",
        ),
        (["choose", "folder", "--max", "flops=x%"], "NAME=NUMBER or NAME=PERCENT%, got 'flops=x%'"),
        (["choose", "folder", "--preference", "flops=1,flops=2"], "expected every name once"),
        (["report", "none"], "none is no run folder"),
        (["report", "folder", "--out", "folder"], "expected the name of a file"),
        ([*RANDOM, "--out", "file"], "expected a folder, and .*file is a file"),
        ([*RANDOM, "--out", "folder", "--seeds", "0"], "expected a whole number >= 1, got '0'"),
        ([*RANDOM, "--out", "damaged"], "benchmark.json is damaged"),
        (["benchmark-report", "folder"], "folder has no results.csv"),
        (["benchmark-report", "damaged"], "results in damaged are damaged"),
        (["library", "--out", "file"], "expected a folder, and .*file is a file"),
        (["library", "--least", "1"], "--least: expected a share below 1, got 1"),
        (["two-stage", "--pick", "-1"], "expected a whole number >= 0, got '-1'"),
        (["two-stage", "--run", "file/run"], "expected a folder, and .*file is a file"),
        (["two-stage", "--network", "named:splits", "--data", "named:splits"], "expected a Module"),
        (["two-stage", "--network", "vgg61"], "unknown network 'vgg61'"),
    ],
)
def test_commands_end_with_one_clear_line(command, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "strategy.json").write_text(json.dumps(GOOD))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "benchmark.json").write_text("{}")
    (tmp_path / "damaged" / "results.csv").write_text(f"{','.join(RESULT)}\n")
    (tmp_path / "damaged" / "about.json").write_text('{"versions": {}}')
    try:
        status = main(command)
    except SystemExit as exit:  # of the parser
        status = exit.code
    assert status == 2
    printed = capsys.readouterr().err
    assert "error: " in printed and re.search(message, " ".join(printed.split()))


def test_what_is_read_or_of_a_run_is_not_written_over(tmp_path, capsys):
    file = tmp_path / "config.json"
    file.write_text("{}")
    for command in ("apply", "export", "finetune"):
        other = tmp_path / "one.safetensors"
        other.write_text("precious")
        assert main([command, str(other), "--out", str(tmp_path / "." / other.name)]) == 2
        assert "one.safetensors is what is read; give another name" in capsys.readouterr().err
        assert other.read_text() == "precious"
    with pytest.raises(SystemExit):
        main(["choose", str(tmp_path), "--knee", "--out", str(file)])
    assert "config.json is a file of a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objectives": "accuracy"}, r"objectives: .*\['accuracy'\]"),
        ({"decide": "channels"}, r"decide: .*\['channels'\]"),
        ({"budgets": {"latency": 0.5}, "latency": None}, "latency.*table"),
    ],
)
def test_arguments_of_another_kind(arguments, message):
    with pytest.raises(UserError, match=message):
        gym.make("ChannelPrune-ResNet20-v0", **arguments)


def test_an_interrupted_command_is_no_traceback(capsys, monkeypatch):
    def stops(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("prune_gym.experiments.results.read_results", stops)
    assert main(["report", "run"]) == 130
    assert "error: interrupted; what was finished is kept" in capsys.readouterr().err


def test_splits_that_are_no_images():
    with pytest.raises(UserError, match=r"\(N, C, H, W\).*float64"):
        Split(np.zeros((2, 3, 8, 8)), np.zeros(2, dtype=np.int64))
    with pytest.raises(UserError, match=r"2 labels.*got \(3,\)"):
        Split(np.zeros((2, 3, 8, 8), dtype=np.uint8), np.zeros(3, dtype=np.int64))
