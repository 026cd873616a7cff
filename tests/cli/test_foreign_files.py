"""Strategies and network files of anybody: a `UserError` that names the file, or a right result."""

import copy
import json
import warnings

import gymnasium as gym
import pytest
import torch
from foreign import ANYTHING, FUZZ, changed, places
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import constant, play
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from prune_gym.cli import main
from prune_gym.compression.network_file import load_network, read_network_spec, save_network
from prune_gym.errors import UserError
from prune_gym.search_space.strategy import Strategy, load_strategy


@pytest.fixture(scope="module")
def plain():
    return play(gym.make("ChannelPrune-Table-v0"), constant(0.0))[2][-1]["strategy"]


@FUZZ
@given(data=st.data())
def test_strategies_with_a_changed_value(plain, tmp_path, data):
    file = tmp_path / "foreign.json"
    file.write_text(json.dumps(changed(plain, data.draw)))
    try:
        strategy = load_strategy(file)
    except UserError as error:
        assert "foreign.json" in str(error)
        return
    strategy.save(tmp_path / "again.json")
    assert load_strategy(tmp_path / "again.json") == strategy


@FUZZ
@given(content=ANYTHING)
def test_what_is_no_strategy_at_all(tmp_path, content):
    file = tmp_path / "foreign.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"foreign\.json"):
        load_strategy(file)


@settings(FUZZ, max_examples=20)
@given(data=st.data())
def test_a_command_ends_with_a_line_or_a_verdict(plain, tmp_path, capsys, data):
    file = tmp_path / "foreign.json"
    file.write_text(json.dumps(changed(plain, data.draw)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        status = main(["validate", str(file)])
    assert status in (0, 1, 2)
    assert (status == 2) == capsys.readouterr().err.startswith("error: ")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The file of a small network whose shortcuts are padded and whose layers have bits."""
    path = tmp_path_factory.mktemp("network") / "one.safetensors"
    env = gym.make("JointPrune-ResNet20-v0", repair="none").unwrapped
    strategy = play(env, constant(-0.3))[2][-1]["strategy"]
    made = env.problem.configure(strategy)
    small = env.problem.apply(strategy)
    save_network(small, path, name="resnet20", num_classes=10, configuration=made)
    return path


def header_of(file):
    with safe_open(file, framework="pt") as opened:
        return opened.metadata()


def loads_or_says(file, expected):
    try:
        found = load_network(file)
    except UserError as error:
        assert file.name in str(error)
        return
    for key, value in load_file(file).items():
        torch.testing.assert_close(found.state_dict()[key].float(), value.float())
    assert not found.training


@settings(FUZZ, max_examples=50)
@given(data=st.data())
def test_networks_with_a_changed_header(network, tmp_path, data):
    header, tensors = header_of(network), load_file(network)
    key = data.draw(st.sampled_from(sorted(header)))
    if data.draw(st.booleans()):
        try:
            content = json.loads(header[key])
        except ValueError:
            content = header[key]
        if isinstance(content, dict | list) and places(content):
            content = changed(content, data.draw)
        else:
            content = data.draw(ANYTHING)
        text = content if isinstance(content, str) else json.dumps(content)
        header[key] = text.encode(errors="replace").decode()
    else:
        del header[key]
    file = tmp_path / "foreign.safetensors"
    save_file(tensors, file, header)
    loads_or_says(file, tensors)


@settings(FUZZ, max_examples=50)
@given(data=st.data())
def test_networks_with_changed_bytes(network, tmp_path, data):
    content = bytearray(network.read_bytes())
    length = 8 + int.from_bytes(content[:8], "little")  # of the header
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, length - 1))
        content[at] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), length, length - 1, 9, 8, 3, 0]))]
    file = tmp_path / "foreign.safetensors"
    file.write_bytes(content)
    loads_or_says(file, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": "1000000000"}, "num_classes in the header"),
        ({"input_shape": "[3, 100000, 100000]"}, "input_shape in the header"),
        ({"widths": "[1]"}, "widths: "),
        ({"bits": '{"conv1": [4, 99]}'}, "bits in the header"),
        ({"bits": '{"nothing": [4, 4]}'}, "layer 'nothing'"),
        ({"pads": '{"nothing": [0, 0, 0, 0, 1, 1]}'}, "module 'nothing'"),
        ({"blocks": "[true]"}, "blocks: "),
        ({"density": "[0.5]"}, "density: .*got 1"),
        ({"density": "[2]"}, "density in the header"),
        ({"network": "resnet2000"}, "the user's own network"),
    ],
)
def test_headers_of_other_networks(network, tmp_path, change, message):
    file = tmp_path / "foreign.safetensors"
    save_file(load_file(network), file, header_of(network) | change)
    with pytest.raises(UserError, match=message) as error:
        load_network(file)
    assert "foreign.safetensors" in str(error.value)


def test_a_header_in_a_header_in_a_header(network, tmp_path):
    header = header_of(network)
    for _ in range(12):
        header = header | {"base": json.dumps(header)}
    save_file(load_file(network), tmp_path / "foreign.safetensors", header)
    with pytest.raises(UserError, match="foreign.safetensors: base in the header"):
        load_network(tmp_path / "foreign.safetensors")


def test_a_spec_is_read_as_it_was_written(network, tmp_path):
    spec = read_network_spec(network)
    assert spec.network == "resnet20" and spec.base is None and spec.pads
    save_file(load_file(network), tmp_path / "again.safetensors", spec.as_header())
    assert read_network_spec(tmp_path / "again.safetensors") == spec


def test_the_same_decision_twice_is_refused(plain, tmp_path):
    content = copy.deepcopy(plain)
    content["decisions"] += content["decisions"][:1]
    (tmp_path / "twice.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="twice.json: .*decision"):
        load_strategy(tmp_path / "twice.json")


def test_a_metric_with_markup_is_shown_as_it_is(plain, tmp_path, capsys):
    content = copy.deepcopy(plain)
    content["metrics"]["[/red]"] = 1.0
    file = tmp_path / "one.json"
    Strategy(**{**content, "decisions": tuple(content["decisions"])}).save(file)
    assert main(["validate", str(file)]) == 1
    assert "[/red]" in capsys.readouterr().out
