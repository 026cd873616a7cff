"""The plan of an episode: its decisions in order, and what their values come to."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from prune_gym.errors import UserError
from prune_gym.graph.configuration import Configuration
from prune_gym.graph.layer_table import LayerTable
from prune_gym.search_space import FIELDS, Decision

TYPES = {
    "widths": np.int64,
    "blocks": np.bool_,
    "weight_bits": np.int64,
    "activation_bits": np.int64,
}


class SearchSpace:
    """Turns the values of decisions, ``float64 (n, decisions)``, into what they come to.

    Attributes:
        decisions: in the order of the episode.
        full: the original network's values, ``(decisions,)``.
        least: the smallest value of every decision, ``(decisions,)``.
    """

    def __init__(
        self,
        table: LayerTable,
        decisions: tuple[Decision, ...],
        density: np.ndarray | None = None,
    ) -> None:
        """Take the decisions about the network of ``table``.

        ``density`` is the share of weights that are not zero in a network that was pruned before,
        ``float (layers,)``; None where all are there.
        """
        self.decisions = decisions
        self.full = np.array([decision.of for decision in decisions], dtype=np.float64)
        self.least = np.array([decision.options[0] for decision in decisions], dtype=np.float64)
        self._table_full = table.full
        self._places: dict[str, tuple[list[int], list[int], int]] = {}
        lengths = {"widths": len(table.groups), "blocks": len(table.blocks)}
        for index, decision in enumerate(decisions):
            field = FIELDS[decision.kind]
            length = lengths.get(field, len(table.weighted))
            sources, targets, _ = self._places.setdefault(field, ([], [], length))
            sources += [index] * len(decision.columns)
            targets += decision.columns
        self._density = density
        self._block_of = self._decisions_of_blocks()

    def asked(self, actions: np.ndarray) -> np.ndarray:
        """Return the values that actions ``(decisions,)`` ask for, whatever the budgets allow."""
        pairs = zip(self.decisions, actions, strict=True)
        return np.array([decision.nearest(action) for decision, action in pairs])

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return the actions in [-1, 1] that ask for values ``(decisions,)``."""
        pairs = zip(self.decisions, values, strict=True)
        return np.array([decision.encode(value) for decision, value in pairs])

    def configure(self, values: np.ndarray) -> Configuration:
        """Return what n strategies come to: values ``(n, decisions)``."""
        parts: dict[str, np.ndarray] = {}
        for field, (sources, targets, length) in self._places.items():
            array: np.ndarray = np.empty((len(values), length), TYPES.get(field, np.float64))
            array[:, targets] = values[:, sources]
            parts[field] = array
        if "widths" not in parts:
            parts["widths"] = np.broadcast_to(
                self._table_full, (len(values), len(self._table_full))
            )
        if self._density is not None:  # weights that are zero already stay so
            density = np.broadcast_to(self._density, (len(values), len(self._density)))
            parts["density"] = np.minimum(parts.get("density", 1.0), density)
        return Configuration(**parts)  # type: ignore[arg-type]

    def is_active(self, index: int, values: np.ndarray) -> bool:
        """Return whether a decision is made, given the values before it: not in a skipped block."""
        block = self._block_of[index]
        return block < 0 or (values[block] > 0 and self.is_active(block, values))

    def following(self, index: int, values: np.ndarray) -> int:
        """Return the next decision after ``index`` that is made; their number at the end."""
        index += 1
        while index < len(self.decisions) and not self.is_active(index, values):
            index += 1
        return index

    def canonicalise(self, values: np.ndarray) -> np.ndarray:
        """Return n strategies' values with the least ones for decisions that are not made."""
        canonicalise = values.copy()
        for index, block in enumerate(self._block_of):  # of blocks in one another the outer first
            if block >= 0:
                canonicalise[canonicalise[:, block] == 0, index] = self.least[index]
        return canonicalise

    def values_of(self, made: Iterable[Mapping[str, Any]]) -> np.ndarray:
        """Return the values of all decisions, ``(decisions,)``, from a strategy's.

        What lies in a skipped block need not be given.

        Raises:
            UserError: a decision is missing, is unknown, is of another value than the network
                has, or has a value that is no option.
        """
        values, missing = self.full.copy(), []
        unknown = {(each["kind"], each["name"]): each for each in made}
        for index, decision in enumerate(self.decisions):
            key = (decision.kind, decision.name)
            found = unknown.pop(key, None)
            if not self.is_active(index, values):
                values[index] = decision.options[0]
            elif found is None:
                missing.append(" ".join(key))
            elif found["of"] != decision.of:
                raise UserError(
                    f"{' '.join(key)}: the strategy is of another network, which has "
                    f"{found['of']:g} there; this one has {decision.of:g}"
                )
            elif found["value"] not in decision.options:
                raise UserError(
                    f"{' '.join(key)}: expected one of {decision.options.tolist()}, "
                    f"the strategy has {found['value']:g}"
                )
            else:
                values[index] = found["value"]
        if missing or unknown:
            raise UserError(
                "the strategy is of another network or of other kinds of decisions: it lacks "
                f"{missing} and has besides {[' '.join(key) for key in unknown]}"
            )
        return values

    def _decisions_of_blocks(self) -> list[int]:
        """Return for every decision the decision about the block around it, -1 for none."""
        about = {d.columns[0]: i for i, d in enumerate(self.decisions) if d.kind == "block"}
        return [about.get(decision.inside, -1) for decision in self.decisions]
