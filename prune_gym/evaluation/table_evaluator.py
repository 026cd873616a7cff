"""Accuracies that are looked up: every strategy of a small search space was evaluated once."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from prune_gym.errors import UserError
from prune_gym.evaluation.accuracy_cache import AccuracyCache
from prune_gym.evaluation.evaluator import Evaluator

TABLES = Path(__file__).parents[1] / "models" / "weights"
REPAIR = "least_squares"  # of the candidates in every table


class TableEvaluator(Evaluator):
    """An evaluator that knows the accuracies of a shipped table; other candidates are measured."""

    def __init__(self, base: Evaluator, table: str) -> None:
        """Take the task of ``base`` and the table's name, ``NETWORK-DATA``.

        Raises:
            UserError: the table is damaged.
        """
        widths, accuracies = load_table(table)
        known: dict[bytes, float] = {}
        if base.repair == REPAIR:
            configuration = base.table.configuration(widths)
            rows = (configuration[row] for row in range(len(widths)))
            known = {one.key(): float(a) for one, a in zip(rows, accuracies, strict=True)}
        parts = (base.network, base.table, base.data, base.calibration, base.pixels, base.repair)
        super().__init__(*parts, None, base.importance, AccuracyCache(known), base.device)
        self._base, self._name = base, table

    def __reduce__(self) -> tuple:
        """Pickle the task and the table's name."""
        return (TableEvaluator, (self._base, self._name))


def table_path(name: str) -> Path:
    """Return where a shipped table is."""
    return TABLES / f"{name}-table.safetensors"


def load_table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the widths ``int64 (n, groups)`` and accuracies ``(n,)`` of a shipped table.

    Raises:
        UserError: there is no such table, or it is damaged.
    """
    file = table_path(name)
    try:
        arrays = load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is not a whole table ({error}); fetch it again") from None
    return arrays["values"].astype(np.int64), arrays["hits"] / arrays["images"]


def save_table(path: Path, widths: np.ndarray, accuracies: np.ndarray, images: int) -> None:
    """Write the accuracies ``(n,)`` of channel strategies given as widths ``(n, groups)``.

    Widths are below 65,536; accuracies are kept as hits among ``images``.
    """
    arrays: dict[str, np.ndarray] = {
        "values": widths.astype(np.uint16),
        "hits": np.round(accuracies * images).astype(np.uint16),
        "images": np.array([images], dtype=np.uint32),
    }
    save_file(arrays, path)
