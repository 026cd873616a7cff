"""What comes from a file names no code to run."""

import inspect
import json
import os
import subprocess
import sys

import gymnasium as gym
import pytest
from named import GIVEN, OPTIONS, TASK, save_strategy
from places import ROOT
from playing import constant, play
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from prune_gym.cli import main
from prune_gym.compression.network_file import load_network
from prune_gym.deployment.deployable import load_deployable
from prune_gym.envs.arguments import KINDS
from prune_gym.envs.make import compression_env, compression_problem
from prune_gym.envs.replay import environment_named, environment_of
from prune_gym.envs.source import MACHINE
from prune_gym.envs.tabulated import tabulated_env
from prune_gym.errors import UserError
from prune_gym.search_space.strategy import Strategy, load_strategy

COMMANDS = ("validate", "apply", "finetune", "export", "measure")
MODULE = "from pathlib import Path\nPath('ran').touch()\n\n\ndef net():\n    Path('ran').touch()\n"
# Names of functions that do something when they are called, or imported, as a file may hold them.
VECTORS = ("evil:net", "pytest:main", "cProfile:main", "os:abort", "evil:net@one.safetensors")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of a stranger: with a module, and files that some functions run."""
    monkeypatch.chdir(tmp_path)
    for name in ("evil.py", "conftest.py", *COMMANDS):
        (tmp_path / name).write_text(MODULE)
    return tmp_path


def strategy_of(file, **kwargs):
    content = {"format": "prune-gym-strategy-2", "env_id": "ChannelPrune-v0", "decisions": []}
    file.write_text(json.dumps(content | {"env_kwargs": kwargs, "metrics": {}}))
    return file


def run(folder, *arguments):
    """Run Python in the folder, where its modules can be imported."""
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=variables, capture_output=True, text=True
    )


@pytest.mark.parametrize("option", ["network", "data"])
@pytest.mark.parametrize("named", VECTORS)
def test_a_strategy_runs_nothing(folder, named, option, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    kwargs = {"network": "resnet20", "data": "digits"} | {option: named}
    file = strategy_of(folder / "best.json", **kwargs)
    for command in COMMANDS:
        assert main([command, str(file)]) == 2
        message = " ".join(capsys.readouterr().err.split())
        assert f"names the function '{named}'" in message and f"--{option} {named}" in message
    assert not (folder / "ran").exists() and "evil" not in sys.modules


def test_a_strategy_runs_nothing_in_another_process(folder):
    file = strategy_of(folder / "best.json", network="evil:net", data="digits")
    done = run(folder, "-m", "prune_gym.cli", "validate", str(file))
    assert done.returncode == 2 and "names the function 'evil:net'" in done.stderr
    assert not (folder / "ran").exists()


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The file of a small pruned network, whose header names functions."""
    path = tmp_path_factory.mktemp("network") / "one.json"
    save_strategy(path)
    assert main(["apply", str(path), *OPTIONS]) == 0
    return path.with_suffix(".safetensors")


def renamed(file, out, **changes):
    """Write a network's file with other fields in its header."""
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    save_file(load_file(file), out, header | changes)
    return out


@pytest.mark.parametrize("named", VECTORS)
def test_the_header_of_a_network_runs_nothing(folder, network, named, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    whole = renamed(network, folder / "net.safetensors", network=named, data="digits")
    with safe_open(whole, framework="pt") as opened:
        base = json.dumps(opened.metadata())
    again = renamed(network, folder / "base.safetensors", network="vgg16", data="digits", base=base)
    for file in (whole, again):
        with pytest.raises(UserError, match=f"{file.name} names the function"):
            load_network(file)
        with pytest.raises(UserError, match="names the function"):
            compression_env(str(file), "digits")
        for command in ("export", "measure"):
            assert main([command, str(file)]) == 2
            assert "names the function" in " ".join(capsys.readouterr().err.split())
        strategy = strategy_of(folder / "best.json", network=str(file), data="digits")
        assert main(["validate", str(strategy)]) == 2
        assert "names the function" in " ".join(capsys.readouterr().err.split())
    assert not (folder / "ran").exists() and "evil" not in sys.modules


def test_the_data_in_the_header_run_nothing(folder, network, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    file = renamed(network, folder / "net.safetensors", network="vgg16", data="evil:net")
    with pytest.raises(UserError, match="names the function 'evil:net'.*--data evil:net"):
        load_deployable(file)
    assert not (folder / "ran").exists()


def test_a_network_runs_nothing_in_another_process(folder, network):
    renamed(network, folder / "net.safetensors", network="evil:net")
    code = "from prune_gym.compression import network_file as n; n.load_network('net.safetensors')"
    done = run(folder, "-c", code)
    assert "UserError" in done.stderr and "names the function 'evil:net@" in done.stderr
    assert not (folder / "ran").exists()


def test_a_library_runs_nothing(folder, monkeypatch, tiny_task):
    monkeypatch.syspath_prepend(str(folder))
    manifest = {"format": "prune-gym-library-1", "network": "evil:net", "data": "evil:net"}
    manifest |= {"start": "", "densities": [], "networks": []}
    (folder / "library.json").write_text(json.dumps(manifest))
    kwargs = {"decide": ("global_density", "weight_bits"), "granularity": 1}
    with pytest.raises(UserError, match="other weights"):
        compression_env(**tiny_task | kwargs, library=str(folder))
    assert not (folder / "ran").exists()


def test_what_the_user_names_again_is_called(network, tmp_path):
    strategy = load_strategy(network.with_suffix(".json"))
    with pytest.raises(UserError, match="names the function"):
        environment_of(strategy)
    env = environment_of(strategy, **GIVEN)
    assert (
        sum(p.numel() for p in env.problem.apply(strategy).parameters())
        == strategy.metrics["params"]
    )
    for command in ("validate", "apply"):
        assert main([command, str(network.with_suffix(".json")), *OPTIONS]) == 0
    assert load_network(f"{TASK['network']}@{network}") is not None


def test_a_second_search_starts_from_a_network_of_a_named_function(network, tmp_path):
    """Its strategies name function and file, and ``--network FUNCTION`` is enough for them."""
    start = f"{TASK['network']}@{network}"
    env = gym.make("ChannelPrune-v0", network=start, data=TASK["data"], round_to=1)
    Strategy(**_without_format(play(env, constant(0.0))[2][-1]["strategy"])).save(
        tmp_path / "again.json"
    )
    assert main(["validate", str(tmp_path / "again.json")]) == 2
    assert main(["validate", str(tmp_path / "again.json"), *OPTIONS]) == 0
    assert main(["apply", str(tmp_path / "again.json"), *OPTIONS]) == 0
    load_network(f"{TASK['network']}@{tmp_path / 'again.safetensors'}")


def _without_format(plain):
    return {**plain, "decisions": tuple(plain["decisions"])}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"network": 5}, "network: .*got 5"),
        ({"network": ["os:abort"]}, "network: "),
        ({"data": {"a": 1}}, "data: "),
        ({"library": 1}, "library: "),
        ({"render_mode": 5}, "render_mode: .*got 5"),
        ({"render_mode": []}, r"render_mode: .*got \[\]"),
        ({"granularity": 10**30}, "granularity: "),
        ({"discrete": 10**30}, "discrete: "),
        ({"budgets": {"flops": "half"}}, "budgets: "),
        ({"budgets": {"flops": float("nan")}}, "budgets: "),
        ({"bits": [2.5]}, "bits: "),
        ({"colour": 1}, "unknown argument 'colour'"),
    ],
)
def test_arguments_of_another_kind_are_refused_before_anything_is_made(kwargs, message):
    with pytest.raises(UserError, match=message):
        environment_named(Strategy("ChannelPrune-v0", kwargs, (), {}))


def test_every_argument_of_the_environment_is_checked():
    functions = (compression_env, compression_problem, tabulated_env)
    named = {name for each in functions for name in inspect.signature(each).parameters}
    assert named - {"arguments", MACHINE} == KINDS.keys()


def test_a_message_with_markup_and_control_characters_is_shown_as_it_is(tmp_path, capsys):
    file = strategy_of(tmp_path / "one.json", network="[/red]\x1b[31m\udc80:net", data="digits")
    assert main(["validate", str(file)]) == 2
    message = capsys.readouterr().err
    assert "[/red]" in message and "\x1b" not in message
