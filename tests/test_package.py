import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
OWN = {"prune_gym", "agents", "envs_registry", "train"}
NAMES = {"PIL": "pillow", "sklearn": "scikit-learn", "stable_baselines3": "stable-baselines3"}
# torch.utils.tensorboard needs the one, pooch's progress bar the other.
INDIRECT = {"tensorboard", "tqdm"}


def imported():
    """Return the distributions that the package's own files import."""
    files = [ROOT / "train.py", ROOT / "envs_registry.py"]
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
    optional = names(extras["onnx"] + extras["detection"])
    assert required - INDIRECT == imported() - optional
    assert "torch-pruning" not in required | optional
