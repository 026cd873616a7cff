"""What a second worker is worth: wall time of the same cells with one worker and with two.

    python benchmarks/ray_speedup.py

The second figure is of a Ray cluster of two nodes on this machine, a processor each; one worker is
the process itself, without Ray. A worker computes with one thread. Its start (imports, weights,
data) is not counted: it plays a strategy before. Every time is of new processes and a new folder,
so that nothing is known from an earlier one.
"""

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from ray.cluster_utils import Cluster

from prune_gym._utils.parallel import workers
from prune_gym.experiments.benchmark.backends import run_cells
from prune_gym.experiments.benchmark.cells import make_cells

NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}


def main() -> None:
    """Print a table in Markdown, and the ratio of the times with its spread over repeats."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="ChannelPrune-VGG16-v0")
    parser.add_argument("--agent", default="random-ratio")
    parser.add_argument("--cells", type=int, default=4, help="seeds (%(default)s)")
    parser.add_argument("--evaluations", type=int, default=100, help="per cell (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    cells = (options.env, options.agent, options.cells, options.evaluations)
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    cluster.add_node(**NODE)
    print("| one worker, s | two workers, s | ratio |\n|---|---|---|")
    ratios = []
    for _ in range(options.repeats):
        one = in_new_process(1, None, *cells)
        two = in_new_process(2, cluster.address, *cells)
        ratios.append(one / two)
        print(f"| {one:.1f} | {two:.1f} | {one / two:.2f} |", flush=True)
    cluster.shutdown()
    middle, ends = statistics.median(ratios), (min(ratios), max(ratios))
    print(f"\nratio: median {middle:.2f}, from {ends[0]:.2f} to {ends[1]:.2f}")


def in_new_process(*arguments: str | int | None) -> float:
    """Return what `seconds` does, measured by a process that knows nothing yet."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(seconds, *arguments).result()


def seconds(
    jobs: int, address: str | None, env: str, agent: str, seeds: int, evaluations: int
) -> float:
    """Return how long ``jobs`` workers take for cells that differ in their seeds.

    Raises:
        RuntimeError: a cell fails.
    """
    with tempfile.TemporaryDirectory() as folder, workers(jobs, address):
        root = Path(folder)
        run_cells(make_cells(root / "start", [env], [agent], jobs, 1))
        cells = make_cells(root / "timed", [env], [agent], seeds, evaluations)
        start = time.perf_counter()
        failed = run_cells(cells)
        elapsed = time.perf_counter() - start
    if failed:
        raise RuntimeError("; ".join(f"{cell}: {error}" for cell, error in failed.items()))
    return elapsed


if __name__ == "__main__":
    main()
