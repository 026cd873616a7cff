"""Recipes: how a network is trained, from TOML files that ship or are the user's."""

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from prune_gym._utils.paths import is_file, read_text
from prune_gym.errors import MissingFileError, UserError, unknown

SHIPPED = Path(__file__).parent / "recipes"
WHOLE = ("epochs", "batch_size", "seed")
OPTIMIZERS = ("sgd", "adamw")
MOST = {"distillation": 1, "label_smoothing": 1, "shift": 0.5}


@dataclass(frozen=True)
class TrainingRecipe:
    """How to train a classifier: an optimizer, a linear warm-up and a cosine to zero.

    The optimizer is "sgd" (with Nesterov momentum) or "adamw" (``momentum`` is its first beta).

    Images are shifted at random by up to the share ``shift`` of their height and width, what is
    missing mirrored at the edge.
    With ``distillation`` > 0 that share of the loss is the divergence from a teacher's answers at
    ``temperature`` (Hinton, Vinyals & Dean 2015, arXiv 1503.02531), the rest cross entropy.
    """

    epochs: int
    learning_rate: float = 0.1
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    warmup_epochs: float = 1.0
    distillation: float = 0.0
    temperature: float = 4.0
    shift: float = 0.125
    seed: int = 0
    optimizer: str = "sgd"

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: one is of the wrong type or out of range.
        """
        if self.optimizer not in OPTIMIZERS:
            raise UserError(unknown("optimizer of a recipe", str(self.optimizer), OPTIMIZERS))
        numbers = asdict(self)
        del numbers["optimizer"]
        for name, value in numbers.items():
            kinds, kind = ((int,), "whole number") if name in WHOLE else ((int, float), "number")
            least = 1 if name in ("epochs", "batch_size") else 0
            if isinstance(value, bool) or not isinstance(value, kinds) or not value >= least:
                raise UserError(f"recipe: {name}: expected a {kind} >= {least}, got {value!r}")
        for name, most in MOST.items():
            if getattr(self, name) > most:
                raise UserError(
                    f"recipe: {name}: expected at most {most}, got {getattr(self, name)}"
                )
        if self.temperature == 0:
            raise UserError("recipe: temperature: expected more than 0")


def load_recipe(name: str, **changes: Any) -> TrainingRecipe:
    """Return the recipe of a TOML file: a shipped one's name, or a path ending in ``.toml``.

    Args:
        name: of the recipe.
        changes: fields that replace those of the file.

    Raises:
        MissingFileError: no such file.
        UserError: no shipped recipe of that name, or the file is no recipe.
    """
    path = Path(name) if name.endswith(".toml") else SHIPPED / f"{name}.toml"
    if not is_file(path):
        if name.endswith(".toml"):
            raise MissingFileError(f"{path}: no such recipe file")
        raise UserError(unknown("recipe (shipped name or .toml file)", name, shipped_recipes()))
    try:
        content = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML ({error})") from error
    known = [field.name for field in fields(TrainingRecipe)]
    for key in content:
        if key not in known:
            raise UserError(f"{path}: {unknown('field of a recipe', key, known)}")
    if "epochs" not in {**content, **changes}:
        raise UserError(f"{path}: a recipe needs epochs")
    return TrainingRecipe(**{**content, **changes})


def shipped_recipes() -> list[str]:
    """Return the names of the recipes that ship."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))
