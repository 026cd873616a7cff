"""What the pages in docs/ say is what the code does."""

import ast
import doctest
import inspect
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from prune_gym import cli
from prune_gym.agents.envelope_ddpg.envelope_ddpg import EnvelopeDDPG
from prune_gym.compression.repair import REPAIRS
from prune_gym.costs import COSTS
from prune_gym.envs.observation import FEATURES

ROOT = Path(__file__).parent.parent
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
                assert place in [heading.lower().replace(" ", "-") for heading in headings], target


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
