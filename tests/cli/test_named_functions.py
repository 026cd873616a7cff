"""Networks and data named by strings, and the example that shows one's own network."""

import json
import os
import pickle
import re
import subprocess
import sys

import gymnasium as gym
import pytest
from own_module import SPLITS
from places import ROOT
from playing import constant, play

from prune_gym import cli
from prune_gym.errors import MissingFileError, UserError, UserTypeError

MODULE = (
    SPLITS
    + """
WEIGHTS = 3


def factory():
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), *head).eval()


def broken():
    return int("seven")  # here
"""
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The name of a module that no other test has imported."""
    name = f"nets_{tmp_path.name}".replace("-", "_")
    (tmp_path / name).mkdir()
    (tmp_path / name / "small.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"{name}.small"


@pytest.fixture
def own(package):
    return {"network": f"{package}:factory", "data": f"{package}:splits"}


def test_an_environment_of_named_functions(own):
    env = gym.make("ChannelPrune-v0", **own)
    assert [d.name for d in env.unwrapped.problem.decisions] == ["0"]
    _, _, infos = play(env, constant(0.0))
    strategy = json.loads(json.dumps(infos[-1]["strategy"]))
    assert strategy["env_kwargs"].items() >= own.items()
    again = gym.make(strategy["env_id"], **strategy["env_kwargs"])
    assert again.unwrapped.problem.validate(strategy).reproduced
    assert (
        pickle.loads(pickle.dumps(env.unwrapped.problem.evaluator))
        is env.unwrapped.problem.evaluator
    )


def test_named_functions_on_the_command_line(own, tmp_path, capsys):
    run = tmp_path / "run"
    named = ["--network", own["network"], "--data", own["data"]]
    options = ["--env", "ChannelPrune-v0", *named, "--agent", "random", "--episodes", "2"]
    assert cli.main(["train", *options, "--run", str(run)]) == 0
    assert cli.main(["apply", str(run / "front/000.json")]) == 2
    assert cli.main(["apply", str(run / "front/000.json"), *named]) == 0
    assert (run / "front/000.safetensors").is_file()


@pytest.mark.parametrize("env_id", ["ChannelPrune-v0", "json:ChannelPrune-v0"])
def test_an_error_in_ones_own_module_says_where(env_id, package, tmp_path, capsys):
    options = ["--env", env_id, "--network", f"{package}:factory", "--data", f"{package}:broken"]
    options += ["--run", str(tmp_path / "run")]
    assert cli.main(["train", *options]) == 2
    line = 1 + MODULE.splitlines().index('    return int("seven")  # here')
    message = capsys.readouterr().err.strip()
    named = f"error: data '{package}:broken' raised ValueError: invalid literal for int()"
    assert message.startswith(named)
    assert message.endswith(f"small.py:{line}, in broken)")


def test_an_error_in_nobodys_own_module_has_no_place(tmp_path, capsys):
    assert cli.main(["apply", str(tmp_path / "none.json")]) == 2
    assert ".py" not in capsys.readouterr().err


def test_the_id_that_the_docs_add(own, monkeypatch):
    page = (ROOT / "docs" / "adding.md").read_text().partition("## An id\n")[2]
    code = re.search(r"```python\n(.*?)```", page, re.S).group(1)
    for name, ours in own.items():
        code = code.replace(f"my_nets:{name}", ours)
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    exec(code, {})
    envs = gym.make_vec("MyPrune-v0", num_envs=2)
    envs.reset(seed=0)
    _, rewards, *_ = envs.step(envs.action_space.sample())
    env = gym.make("MyPrune-v0")
    assert rewards.shape == (2, env.unwrapped.reward_dim)
    strategy = play(env, constant(0.0))[2][-1]["strategy"]
    assert strategy["env_id"] == "ChannelPrune-v0"
    again = gym.make(strategy["env_id"], **strategy["env_kwargs"])
    assert again.unwrapped.problem.validate(strategy).reproduced


def test_an_id_of_ones_own_on_the_command_line(tmp_path):
    """It is searched, and in another process its strategies need not be registered any more."""
    (tmp_path / "my_ids.py").write_text(
        "import gymnasium as gym\n\n"
        "gym.register('MyPrune-v0', 'prune_gym.envs.make:compression_env', "
        "kwargs={'network': 'resnet20'})\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    commands = (
        [str(ROOT / "train.py"), "--env", "my_ids:MyPrune-v0", "--agent", "random"]
        + ["--episodes", "1"],
        ["-m", "prune_gym.cli", "validate", "runs/my_ids-MyPrune-v0-random-0/front/000.json"],
    )
    for command in commands:
        done = subprocess.run(
            [sys.executable, *command],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("my_idz:MyPrune-v0", "my_idz.*cannot be imported"),
        ("json:ChannelPrume-ResNet20-v0", "did you mean 'ChannelPrune-ResNet20-v0'"),
        ("ChannelPrune-VGG16-Scalar-v0", "search its id without -Scalar"),
        ("gymnasium.envs.classic_control:CartPole-v1", "is a CartPoleEnv, not a prune_gym"),
    ],
)
def test_ids_that_nobody_searches(env_id, message, tmp_path, capsys):
    assert cli.main(["train", "--env", env_id, "--run", str(tmp_path / "run")]) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "run").exists()


def test_a_named_function_on_data_that_ship(own):
    env = gym.make("ChannelPrune-v0", network=own["network"], data="digits")
    assert env.unwrapped.problem.evaluator.data.name == "digits"


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        (
            {"network": "no_nets.small:factory"},
            UserError,
            "'no_nets.small' .*PY",
        ),
        ({"network": "HERE:fact"}, UserError, "small .*'fact'"),
        ({"network": "HERE:"}, UserError, "small .*''"),
        ({"network": "HERE:WEIGHTS"}, UserError, "small .*'WEIGHTS'"),
        ({"network": "HERE:splits"}, UserTypeError, "Module.*got Data"),
        ({"data": "HERE:factory"}, UserTypeError, "Data.*got Sequential"),
        ({"data": "HEREST:splits"}, UserError, "data .*ST'"),
        ({"network": "vgg16"}, MissingFileError, "vgg16 on own"),
    ],
)
def test_what_is_missing_is_named(package, own, kwargs, error, message):
    kwargs = {key: value.replace("HERE", package) for key, value in kwargs.items()}
    with pytest.raises(error, match=message):
        gym.make("ChannelPrune-v0", **{**own, **kwargs})


@pytest.mark.parametrize("given", [{}, {"network": "vgg16"}, {"data": "digits"}])
def test_network_and_data_are_required(given, tmp_path, capsys):
    missing = "network=.*data="
    with pytest.raises(UserError, match=missing):
        gym.make("ChannelPrune-v0", **given)
    options = [f"--{name}={value}" for name, value in given.items()]
    run = tmp_path / "run"
    assert cli.main(["train", "--env", "ChannelPrune-v0", *options, "--run", str(run)]) == 2
    assert re.search(missing, " ".join(capsys.readouterr().err.split()))
    assert not run.exists()


def test_names_of_network_and_data_are_enough():
    env = gym.make("ChannelPrune-v0", network="vgg16", data="digits")
    assert env.unwrapped.problem.decisions[0].name == "features.0"
    assert "latency" not in [objective.name for objective in env.unwrapped.objectives]


def test_a_strategy_of_ones_own_id_names_the_defaults(monkeypatch):
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    entry_point = "prune_gym.envs.make:compression_env"
    kwargs = {"repair": "none"}
    gym.register("MyPrune-v0", entry_point, kwargs=kwargs, disable_env_checker=True)
    strategy = play(gym.make("MyPrune-v0"), constant(0.0))[2][-1]["strategy"]
    assert strategy["env_id"] == "ChannelPrune-v0"
    task = {"network": "vgg16", "data": "digits", "latency": "reference-cpu"}
    assert strategy["env_kwargs"] == {**kwargs, **task}


@pytest.mark.ci
def test_the_example_of_ones_own_network(subprocess_env):
    command = [sys.executable, str(ROOT / "examples" / "own_network.py")]
    out = subprocess.run(command, capture_output=True, text=True, env=subprocess_env, check=False)
    assert out.returncode == 0, out.stderr
    original, smaller, saved = out.stdout.splitlines()
    shares = [float(line.split("%")[0].split()[-1]) for line in (original, smaller)]
    assert shares[0] > 90 and shares[1] > 80
    weights = [int(line.split()[-2].replace(",", "")) for line in (original, smaller)]
    assert weights[1] < 0.5 * weights[0]
    assert "saved and loaded again" in saved
