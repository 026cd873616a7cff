"""What the README shows works: every Python block runs, every command line is understood."""

import argparse
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from places import ROOT

from envs_registry import ENVS, VERSION
from prune_gym import cli
from prune_gym.cli import train

README = (ROOT / "README.md").read_text()
TRAIN = (ROOT / "docs" / "train.md").read_text()
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.S | re.M)
SHELL_BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.S | re.M)
COMMANDS = [line for block in SHELL_BLOCKS for line in block.splitlines() if line]
CHEAP = (  # run for real, in this order, in an empty folder
    "prune-gym train --env ChannelPrune-VGG16-v0 --agent uniform --episodes 3 --run runs/sweep",
    "prune-gym train --env ChannelPrune-VGG16-v0 --agent uniform --episodes 3 --run runs/sweep "
    "--resume",
    "prune-gym envs",
    "prune-gym validate runs/sweep/front/001.json",
    "prune-gym apply runs/sweep/front/001.json --out small.safetensors",
)


def words_of(command: str) -> list[str]:
    """Return a command's words without the variables set in front of it."""
    words = shlex.split(command)
    while re.fullmatch(r"\w+=.*", words[0]):
        words.pop(0)
    return words


@pytest.mark.parametrize("number", range(len(PYTHON_BLOCKS)))
def test_python_block_runs(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = compile(PYTHON_BLOCKS[number], f"README.md, Python block {number + 1}", "exec")
    exec(code, {"__name__": "readme"})


def test_blocks_are_found() -> None:
    fences = re.findall(r"^```(.*)$", README, re.M)
    outputs = fences.count("text")
    assert len(fences) == 2 * (len(PYTHON_BLOCKS) + len(SHELL_BLOCKS) + outputs)
    assert PYTHON_BLOCKS and SHELL_BLOCKS


@pytest.mark.parametrize("command", COMMANDS)
def test_command_parses(command: str) -> None:
    match words_of(command):
        case ["prune-gym", *options]:
            cli.make_parser().parse_args(options)
        case ["make", target]:
            subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)
        case ["pip", "install", "-e", path]:
            extra = re.fullmatch(r"\.(?:\[(\w+)\])?", path)
            assert extra
            if extra[1]:
                assert f"\n{extra[1]} = [" in (ROOT / "pyproject.toml").read_text()
        case ["tensorboard", "--logdir", "runs"]:
            pass
        case _:
            pytest.fail(f"nothing here knows how to check {command!r}")


def test_cheap_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in CHEAP:
        assert command in COMMANDS, "the README no longer shows it"
        match words_of(command):
            case ["prune-gym", *options]:
                assert cli.main(options) == 0
    assert (tmp_path / "small.safetensors").is_file()
    assert (tmp_path / "runs/sweep/front.png").is_file()


def test_table_of_ids_is_complete() -> None:
    shown = re.findall(r"^\| `(\w+(?:-\w+)*-v0)` \|", README, re.M)
    patterns = [name.replace("NETWORK", r"\w+") for name in shown]
    for name in ENVS:
        plain = re.sub("-(CIFAR10|ImageNet|DigitPairs)$", "", name)
        assert any(re.fullmatch(pattern, f"{plain}-{VERSION}") for pattern in patterns), name
    for pattern in patterns:
        assert any(re.fullmatch(pattern, f"{name}-{VERSION}") for name in ENVS), pattern


def test_every_option_of_train_is_explained() -> None:
    parser = argparse.ArgumentParser()
    train.options(parser)
    options = set(re.findall(r"^ +(?:-\w, )?(--[a-z]+)", parser.format_help(), re.M))
    explained = re.findall(r"^\| `(--[a-z]+)` \|", TRAIN, re.M)
    assert sorted(explained) == sorted(options - {"--help"})
