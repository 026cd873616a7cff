import ast
import re
import sys
import tomllib

from places import ROOT

OWN = {"prune_gym", "agents", "envs_registry", "prune_gym_start", "train"}
NAMES = {
    "PIL": "pillow",
    "morl_baselines": "morl-baselines",
    "sklearn": "scikit-learn",
    "stable_baselines3": "stable-baselines3",
}
# torch.utils.tensorboard needs the one, pooch's progress bar the other.
INDIRECT = {"tensorboard", "tqdm"}


def imported():
    """Return the distributions that the package's own files import."""
    files = [ROOT / "train.py", ROOT / "envs_registry.py", ROOT / "prune_gym_start.py"]
    files += [*(ROOT / "prune_gym").rglob("*.py"), *(ROOT / "agents").glob("*.py")]
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").partition(".")[0])
    found -= OWN | sys.stdlib_module_names
    return {NAMES.get(name, name) for name in found}


def names(requirements):
    return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}


def test_what_is_imported_is_declared_and_nothing_else_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    required = names(project["dependencies"])
    optional = names(sum((extras[name] for name in extras if name != "dev"), []))
    assert required - INDIRECT == imported() - optional
    assert "torch-pruning" not in required | optional


def test_the_wheel_takes_every_package_and_every_file_in_one():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(setuptools["packages"]["find"]["include"]) == {"prune_gym*"}
    files = [f for top in ("prune_gym", "agents") for f in (ROOT / top).rglob("[!.]*")]
    modules = {file for file in files if file.suffix == ".py"}
    assert all((file.parent / "__init__.py").is_file() for file in modules)
    taken = {
        file
        for package, patterns in setuptools["package-data"].items()
        for pattern in patterns
        for file in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    other = {f for f in files if f.is_file() and "__pycache__" not in f.parts} - modules
    assert other == taken
