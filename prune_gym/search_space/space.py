"""The search space: the decisions of an episode in order, and what their values mean.

A strategy is an action per decision in [-1, 1], then a value per decision, then a
`Configuration`. Here alone one form becomes another.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from prune_gym.errors import UserError, require_names, unknown
from prune_gym.graph.configuration import PARTS, Configuration
from prune_gym.graph.explain import reasons
from prune_gym.graph.layer_table import LayerTable
from prune_gym.search_space.decision import Decision
from prune_gym.search_space.kinds import KINDS, NetworkStatistics, SpaceOptions

FIELDS = set(PARTS)


class SearchSpace:
    """Maps actions to values of decisions, and values to configurations of one network.

    Attributes:
        decisions: in the order of the episode.
        upper: the original network's values, ``float64 (decisions,)``.
        lower: the smallest value of every decision, ``float64 (decisions,)``.
        kinds: the kinds of the decisions by name; other processes get them with the space.
    """

    def __init__(
        self,
        table: LayerTable,
        decisions: Sequence[Decision],
        density: np.ndarray | None = None,
    ) -> None:
        """Take the decisions about the network of ``table``.

        ``density`` is the share of weights that are not zero in a network that was pruned before,
        ``float (layers,)``; None where all are there.
        """
        self.decisions = tuple(decisions)
        self.upper = np.array([d.original for d in decisions], dtype=np.float64)
        self.lower = np.array([d.options[0] for d in decisions], dtype=np.float64)
        self._table, self._density = table, density
        self.kinds = {decision.kind: KINDS[decision.kind] for decision in decisions}
        columns: dict[str, tuple[list[int], list[int]]] = {}
        for index, decision in enumerate(decisions):
            sources, targets = columns.setdefault(decision.kind, ([], []))
            sources += [index] * len(decision.columns)
            targets += decision.columns
        self._columns = {kind: (np.array(s), np.array(t)) for kind, (s, t) in columns.items()}
        fields = {kind.field for kind in self.kinds.values()}
        if density is not None or fields - FIELDS:  # a kind from outside may lower densities
            fields.add("density")
        self._written = fields & FIELDS
        self._block_of = self._decisions_of_blocks()
        self._has_nested = max(self._block_of, default=-1) >= 0
        self._options = _padded([d.options for d in decisions])
        self._grid = _padded([d.grid for d in decisions])
        ends = np.array([(d.grid[0], d.grid[-1]) for d in decisions], dtype=np.float64)
        self._grid_start, end = ends.reshape(-1, 2).T
        self._grid_span = end - self._grid_start

    def __len__(self) -> int:
        """Return the number of decisions."""
        return len(self.decisions)

    def decode(self, actions: np.ndarray) -> np.ndarray:
        """Return the values that actions in [-1, 1] mean, whatever budgets allow.

        Args:
            actions: ``(..., decisions)``.

        Returns:
            float64 in the same shape.
        """
        return self.decode_at(np.arange(len(self)), actions)

    def decode_at(
        self, index: np.ndarray, actions: np.ndarray, allowed: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the values that actions mean for the decisions ``index``.

        Args:
            index: which decisions, ``int (m,)``.
            actions: in [-1, 1], ``(..., m)``.
            allowed: mask over the options, ``bool (m, most options)``; None: all are allowed.

        Returns:
            float64 in the shape of ``actions``.
        """
        grid = self._grid[index]
        unit = np.asarray(actions, dtype=np.float64) + 1
        wanted = self._grid_start[index] + self._grid_span[index] * unit / 2
        if allowed is not None:
            grid = np.where(allowed, grid[:, : allowed.shape[1]], np.inf)
        distance = np.abs(grid - wanted[..., None])
        return self._options[index, distance.argmin(axis=-1)]

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return the actions in [-1, 1] that mean values ``(..., decisions)``, in their shape."""
        values = np.asarray(values)
        columns = [
            [decision.encode(value) for value in column]
            for decision, column in zip(
                self.decisions, values.reshape(-1, len(self)).T, strict=True
            )
        ]
        return np.array(columns).T.reshape(values.shape)

    def options_at(self, index: np.ndarray) -> np.ndarray:
        """Return the options of the decisions ``index``, padded with infinity, (m, most)."""
        return self._options[index]

    def configure(self, values: np.ndarray) -> Configuration:
        """Return the configurations of n strategies, given as values ``(n, decisions)``."""
        untouched = self._table.untouched(len(values))
        parts = dict(untouched)
        for name in self._written:
            parts[name] = parts[name].copy()
        for name, (sources, targets) in self._columns.items():
            kind = self.kinds[name]
            if kind.field not in FIELDS:
                parts[kind.field] = np.ones((len(values), targets.max() + 1))
            kind.configure(parts, targets, values[:, sources])
        if self._density is not None:  # weights that are zero already stay so
            parts["density"] = np.minimum(parts["density"], self._density)
        extra = {name: parts.pop(name) for name in [*parts] if name not in FIELDS}
        same = frozenset(name for name, part in untouched.items() if parts[name] is part)
        return Configuration(**parts, extra=extra, untouched=same)

    def is_active(self, index: int, values: np.ndarray) -> bool:
        """Return whether a decision is made, given the values before it: not in a skipped block."""
        block = self._block_of[index]
        return block < 0 or (values[block] > 0 and self.is_active(block, values))

    def active(self, values: np.ndarray) -> np.ndarray:
        """Return which decisions are made, given the values ``(decisions,)`` of all."""
        return np.array([self.is_active(index, values) for index in range(len(self))])

    def advance(self, index: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Set the inactive decisions after ``index`` to their lower values, in place.

        Args:
            index: the decision just made of each of n episodes, ``int (n,)``.
            values: of the decisions, ``(n, decisions)``.

        Returns:
            The next active decision of each, ``int (n,)``; the number of decisions at the end.
        """
        following = index + 1
        if not self._has_nested:
            return following
        for row, each in enumerate(values):
            at = int(following[row])
            while at < len(self) and not self.is_active(at, each):
                each[at] = self.lower[at]
                at += 1
            following[row] = at
        return following

    def canonicalise(self, values: np.ndarray) -> np.ndarray:
        """Return values ``(n, decisions)`` with the lower ones for decisions that are inactive."""
        canonical = values.copy()
        for index, block in enumerate(self._block_of):  # of nested blocks the outer comes first
            if block >= 0:
                canonical[canonical[:, block] == 0, index] = self.lower[index]
        return canonical

    def to_strategy(
        self, values: np.ndarray, made: int | None = None
    ) -> tuple[dict[str, Any], ...]:
        """Return the active decisions of values ``(decisions,)`` as they stand in a strategy.

        ``made`` is how many decisions an unfinished episode has behind it; None: all of them.
        """
        return tuple(
            {
                "kind": decision.kind,
                "name": decision.name,
                "value": int(value) if value == int(value) else value,
                "of": decision.original,
            }
            for index, decision in enumerate(self.decisions[:made])
            if self.is_active(index, values)
            for value in [float(values[index])]
        )

    def from_strategy(self, decisions: Iterable[Mapping[str, Any]]) -> np.ndarray:
        """Return the values of all decisions, ``(decisions,)``, from those of a strategy.

        What lies in a skipped block need not be given.

        Raises:
            UserError: a decision is missing or unknown, or has another original or a value that is
                no option.
        """
        values, missing = self.upper.copy(), []
        left = {(each["kind"], each["name"]): each for each in decisions}
        for index, decision in enumerate(self.decisions):
            key = (decision.kind, decision.name)
            found = left.pop(key, None)
            if not self.is_active(index, values):
                values[index] = decision.options[0]
            elif found is None:
                missing.append(" ".join(key))
            elif found["of"] != decision.original:
                raise UserError(
                    f"{' '.join(key)}: the strategy is of another network, which has "
                    f"{found['of']:g} there; this one has {decision.original:g}"
                )
            elif found["value"] not in decision.options:
                raise UserError(
                    f"{' '.join(key)}: expected one of {decision.options.tolist()}, "
                    f"the strategy has {found['value']:g}"
                )
            else:
                values[index] = found["value"]
        if missing or left:
            raise UserError(
                "the strategy is of another network or of other kinds of decisions: it lacks "
                f"{missing} and has besides {[' '.join(key) for key in left]}"
            )
        return values

    def _decisions_of_blocks(self) -> list[int]:
        """Return for every decision the decision about the block around it, -1 for none."""
        about = {d.columns[0]: i for i, d in enumerate(self.decisions) if d.kind == "block"}
        return [about.get(decision.parent_block, -1) for decision in self.decisions]


def make_decisions(
    kinds: Sequence[str], network: NetworkStatistics, options: SpaceOptions
) -> tuple[Decision, ...]:
    """Return the decisions of an episode, from the network's input to its output.

    Raises:
        UserError: an unknown kind, one given twice or none; two kinds that decide the same; a
            kind that this network has no place for, or nothing to decide at all.
    """
    require_names("decide", kinds)
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(unknown("kind of decision", kind, KINDS))
    options.check_patterns(network.table)
    if not kinds or len(set(kinds)) != len(kinds):
        raise UserError(f"decide: expected distinct kinds out of {[*KINDS]}, got {tuple(kinds)}")
    for field in {KINDS[kind].field for kind in kinds}:
        if len(same := [kind for kind in kinds if KINDS[kind].field == field]) > 1:
            raise UserError(f"decide: {' and '.join(same)} decide the same, take one of them")
    order = list(KINDS)
    made = [each for kind in kinds for each in KINDS[kind].decisions(network, options)]
    if not made and (options.exclude or options.include is not None):
        raise UserError(
            f"exclude and include leave nothing of {network.name} to decide by {', '.join(kinds)}: "
            "a decision needs that all layers which it changes may change"
        )
    if not made:
        raise UserError(
            f"decide: {network.name} has nothing to decide by {', '.join(kinds)}. "
            f"What pins its channels: {reasons(network.table)}"
        )
    return tuple(sorted(made, key=lambda each: (each.layer, order.index(each.kind))))


def _padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return rows of different lengths as one array, padded with infinity."""
    padded = np.full((len(rows), max(map(len, rows), default=0)), np.inf)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded
