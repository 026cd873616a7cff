"""Running cells in parallel processes."""

import os
from collections.abc import Sequence

from joblib import Parallel, delayed
from joblib.parallel import get_active_backend

from prune_gym._utils.parallel import RETRIES, RayTasks
from prune_gym.experiments.benchmark.cells import Cell, run_cell


def run_cells(cells: Sequence[Cell]) -> dict[Cell, str]:
    """Run the cells that are not finished; returns the errors of those that failed.

    A process that is killed takes no result with it: the cells that are not finished then are
    started again and go on from their journals, up to ``RETRIES`` times.
    """
    on_cluster = isinstance(get_active_backend()[0], RayTasks)
    lost, benchmark = "", None if on_cluster else os.getpid()
    for _ in range(RETRIES + 1):
        left = [cell for cell in cells if not cell.finished]
        try:
            parallel = Parallel(batch_size=1, pre_dispatch="n_jobs")
            errors = parallel(delayed(run_cell)(cell, benchmark) for cell in left)
        except Exception as error:  # not a cell's, which come back as text: a process is gone
            lost = f"its process was lost {RETRIES + 1} times: {error}"
            continue
        return {cell: error for cell, error in zip(left, errors, strict=True) if error}
    return {cell: lost for cell in cells if not cell.finished}
