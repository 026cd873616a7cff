"""What the pages in docs/ say is what the code does."""

import ast
import doctest
import inspect
import re
import shlex
from importlib import import_module
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from places import ROOT

from prune_gym import cli
from prune_gym.agents.envelope_ddpg.envelope_ddpg import EnvelopeDDPG
from prune_gym.compression.repair import REPAIRS
from prune_gym.costs import COSTS
from prune_gym.envs.observation import FEATURES
from prune_gym.search_space import kinds

DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*ROOT.glob("*.md"), *DOCS]
NAMES = [path.relative_to(ROOT / "docs").as_posix() for path in DOCS]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def test_observation_table_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (\S.*?) \|$", page("environment.md"), re.M)
    assert [int(index) for index, _, _ in rows] == list(range(len(FEATURES)))
    assert tuple(name for _, name, _ in rows) == FEATURES


def test_cost_table_names_all_costs() -> None:
    for cost in COSTS:
        assert re.search(rf"^\| {cost} \|", page("environment.md"), re.M), cost


def test_agent_parameters_are_those_of_the_code() -> None:
    parameters = page("envelope-ddpg.md").partition("## Parameters")[2]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", parameters, re.M)
    defaults = inspect.signature(EnvelopeDDPG.__init__).parameters
    assert rows
    for name, value in rows:
        assert ast.literal_eval(value) == defaults[name].default, name


def test_repairs_are_all_named() -> None:
    for repair in REPAIRS:
        assert f"`{repair}`" in page("repair.md"), repair


def anchor(heading: str) -> str:
    """Return the name of a heading in links, as GitHub and the site make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_exist(path: Path) -> None:
    """Links and pictures, and the heading where a link names one."""
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if not target.startswith("http"):
            name, _, place = target.partition("#")
            linked = path.parent / name if name else path
            assert linked.is_file(), target
            if place:
                headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.M)
                assert place in map(anchor, headings), target


@pytest.mark.parametrize("name", NAMES)
def test_commands_parse(name: str) -> None:
    for block in re.findall(r"^```sh\n(.*?)^```$", page(name), re.S | re.M):
        for line in block.splitlines():
            program, *options = shlex.split(line)
            assert program == "prune-gym"
            cli.make_parser().parse_args(options)


@pytest.mark.parametrize("name", ["prune_gym", "prune_gym.errors", "prune_gym.envs.wrappers"])
def test_docstring_examples_run(name: str) -> None:
    result = doctest.testmod(import_module(name))
    assert result.attempted and not result.failed


@pytest.mark.ci
def test_the_network_with_several_inputs_is_compressed(tmp_path, monkeypatch) -> None:
    pytest.importorskip("onnxscript", reason="prune-gym[onnx] is not installed")
    section = page("own-network.md").partition("### Several inputs")[2]
    code = re.search(r"```python\n(.*?)```", section, re.S)
    assert code
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "pairs"}
    exec(code[1], names)
    assert (tmp_path / "small.onnx").is_file()
    assert names["result"].after["flops"] <= 0.5 * names["result"].before["flops"]
    assert names["env"].reset(seed=0)


def test_the_kind_of_decision_in_adding_is_exact() -> None:
    """The example's zeros are those that costs count; its strategies are reproduced."""
    section = page("adding.md").partition("## A kind of decision")[2]
    code = re.search(r"```python\n(.*?)```", section, re.S)
    assert code
    before = set(kinds.KINDS)
    exec(code[1], {"__name__": "kernel_masks"})
    try:
        env = gym.make("ChannelPrune-Table-v0", decide=("channels", "kernel_mask"))
        problem, terminated = env.unwrapped.problem, False
        env.reset(seed=0)
        while not terminated:
            _, _, terminated, _, info = env.step(np.array([-0.4], dtype=np.float32))
        candidate = problem.apply(info["strategy"])
        weights = [p for p in candidate.parameters() if p.ndim > 1]
        table, configuration = problem.evaluator.table, problem.configure(info["strategy"])
        assert (
            sum(int((weight != 0).sum()) for weight in weights)
            == table.nonzeros(configuration).sum()
        )
        assert set(kinds.KINDS) - before == {"kernel_mask"}
        assert problem.validate(info["strategy"]).reproduced
    finally:
        del kinds.KINDS["kernel_mask"]
