"""Give ``joblib.Parallel`` processes of this machine, or of a Ray cluster."""

import logging
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import torch
from joblib import parallel_config
from joblib.parallel import ParallelBackendBase
from threadpoolctl import threadpool_limits

from prune_gym.errors import MissingExtraError, UserError

RETRIES = 3


@contextmanager
def workers(jobs: int | None, ray: str | None) -> Iterator[None]:
    """Let joblib use processes of this machine, or of a Ray cluster.

    What was made by name travels as its name: a process reads weights and data where it runs, once.

    Args:
        jobs: how many processes; None: one, or as many as the cluster has processors.
        ray: address of a cluster, None for this machine.

    Raises:
        MissingExtraError: Ray is not installed.
        UserError: there is no cluster at the address.
    """
    if ray is None:
        with parallel_config(backend="loky", n_jobs=jobs or 1):
            yield
        return
    try:
        import ray as cluster
    except ImportError:
        raise MissingExtraError("--ray needs Ray: pip install 'prune-gym[ray]'") from None
    _check_answer(ray)
    cluster.init(address=ray, log_to_driver=False, logging_level=logging.ERROR)
    try:
        with parallel_config(backend=RayTasks(), n_jobs=jobs or -1):
            yield
    finally:
        cluster.shutdown()


def _check_answer(address: str) -> None:
    """Fail at once where nobody listens: Ray asks again and again for minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return  # "auto"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error}); give the address that "
            "`ray start --head` printed"
        ) from None


class RayTasks(ParallelBackendBase):
    """Runs each call as a Ray task, on whatever processor is free.

    Ray's own backend for joblib deals the calls to a fixed pool in turn: behind a long one others
    wait while processors idle, and a lost node takes the pool with it. Ray runs a lost task again
    elsewhere, up to ``RETRIES`` times, and leaves the others alone.
    """

    supports_retrieve_callback = True

    def __init__(self) -> None:
        """Run nothing yet; this process is connected to the cluster."""
        super().__init__()
        import ray

        self._ray = ray
        self._run = ray.remote(num_cpus=1, max_retries=RETRIES)(_call)
        self._running: dict[Future, Any] = {}

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return how many calls run at a time; -1 asks for all processors of the cluster."""
        processors = int(self._ray.cluster_resources().get("CPU", 1))
        return processors if n_jobs == -1 else n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Future], None]) -> Future:
        """Start a task."""
        task = self._run.remote(func)
        future = task.future()
        self._running[future] = task
        future.add_done_callback(self._running.pop)
        future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future: Future) -> Any:
        """Return the result of a task that has ended, or raise its error."""
        return future.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Kill the tasks that are running."""
        for task in list(self._running.values()):
            self._ray.cancel(task, force=True)


def _call(func: Callable[[], Any]) -> Any:
    return func()


@contextmanager
def limit_threads(threads: int) -> Iterator[None]:
    """Compute with so many threads: with another number sums have other last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)
