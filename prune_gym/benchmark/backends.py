"""Running cells in parallel processes, here or on a Ray cluster."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from joblib import Parallel, delayed, parallel_config

from prune_gym.benchmark.cells import Cell, run_cell

RETRIES = 3


@contextmanager
def workers(jobs: int | None, ray: str | None) -> Iterator[None]:
    """Let joblib use processes of this machine, or of a Ray cluster.

    A process makes its environments by name: weights and data are read where it runs, once, and
    are never sent.

    Args:
        jobs: how many processes; None: one, or as many as the cluster has processors.
        ray: address of a cluster, None for this machine.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: there is no cluster at the address.
    """
    if ray is None:
        with parallel_config(backend="loky", n_jobs=jobs or 1):
            yield
        return
    try:
        import ray as cluster
        from ray.util.joblib import register_ray
    except ImportError:
        raise ImportError("--ray needs Ray: pip install 'prune-gym[ray]'") from None
    register_ray()
    cluster.init(address=ray, log_to_driver=False, logging_level="error")
    try:
        with parallel_config(backend="ray", n_jobs=jobs or -1):
            yield
    finally:
        cluster.shutdown()


def run_cells(cells: Sequence[Cell]) -> dict[Cell, str]:
    """Run the cells that are not finished; returns the errors of those that failed.

    A process that is killed takes no result with it: the cells that are not finished then are
    started again and go on from their journals, up to ``RETRIES`` times.
    """
    lost = ""
    for _ in range(RETRIES + 1):
        left = [cell for cell in cells if not cell.finished]
        try:
            errors = Parallel(batch_size=1)(delayed(run_cell)(cell) for cell in left)
        except Exception as error:  # not a cell's, which come back as text: a process is gone
            lost = f"its process was lost {RETRIES + 1} times: {error}"
            continue
        return {cell: error for cell, error in zip(left, errors, strict=True) if error}
    return {cell: lost for cell in cells if not cell.finished}
