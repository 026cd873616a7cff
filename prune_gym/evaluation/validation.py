"""Whether a strategy's claims are reproduced."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

RELATIVE = 1e-6  # costs are exact; this only forgives decimals in a file
ACCURACY = 0.003  # bfloat16 against float32 on another processor, at high accuracies


@dataclass(frozen=True)
class Claim:
    """One number of a strategy and what was found for it here."""

    name: str
    claimed: float
    found: float
    reproduced: bool


@dataclass(frozen=True)
class ValidationResult:
    """All claims of a strategy."""

    claims: tuple[Claim, ...]
    same_weights: bool

    @property
    def reproduced(self) -> bool:
        """Whether every number was, on the weights that the strategy was found on."""
        return self.same_weights and all(claim.reproduced for claim in self.claims)


def compare(
    claimed: Mapping[str, float],
    found: Mapping[str, float],
    images: int,
    same_weights: bool,
) -> ValidationResult:
    """Compare claimed with found metrics.

    Accuracies may differ by the largest of 0.3 points, one image and the standard error of an
    accuracy on so many images: at low accuracies rounding moves more images across the border. A
    metric that only one side has is not reproduced.
    """
    claims = []
    for name in {**found, **claimed}:
        value, here = claimed.get(name, float("nan")), found.get(name, float("nan"))
        if name == "accuracy":
            error = np.sqrt(here * (1 - here) / images)
            same = bool(abs(value - here) <= max(ACCURACY, 1 / images, error) + 1e-9)
        else:
            same = bool(np.isclose(value, here, rtol=RELATIVE, atol=0.0))
        claims.append(Claim(name, value, here, same))
    return ValidationResult(tuple(claims), same_weights)
