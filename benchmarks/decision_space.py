"""Evaluate every strategy of an environment and write the table that ships.

    python benchmarks/decision_space.py --network vgg6 --data digits --round-to 4 --jobs 2

``ChannelPrune-Table-v0`` looks its accuracies up there. 8,192 strategies take 20 minutes; those
done are kept in ``decision_space.npy`` in the working folder, and the same command goes on.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from prune_gym.envs.make import compression_problem
from prune_gym.evaluation.table_evaluator import save_table, table_path

CHUNK = 32  # strategies a call of a worker
PARTIAL = Path("decision_space.npy")


def main() -> None:
    """Evaluate and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="vgg6")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--round-to", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    task = {"network": options.network, "data": options.data, "round_to": options.round_to}
    problem = compression_problem(**task, latency=None)
    values = np.array(list(product(*(decision.options for decision in problem.decisions))))
    done = np.load(PARTIAL) if PARTIAL.is_file() else np.zeros(0)
    with Parallel(options.jobs) as workers, tqdm(total=len(values), initial=len(done)) as progress:
        while len(done) < len(values):
            ahead = values[len(done) : len(done) + options.jobs * CHUNK]
            parts = [ahead[start : start + CHUNK] for start in range(0, len(ahead), CHUNK)]
            found = workers(delayed(accuracies)(task, part) for part in parts)
            done = np.concatenate([done, *found])
            np.save(PARTIAL, done)
            progress.update(len(ahead))
    path = table_path(f"{options.network}-{options.data}")
    save_table(path, values, done, len(problem.evaluator.data.search))
    PARTIAL.unlink()
    print(f"Wrote {path}: {len(values)} strategies")


def accuracies(task: dict, rows: np.ndarray) -> list[float]:
    """Return the accuracies of strategies given as values of decisions ``(n, decisions)``."""
    torch.set_num_threads(1)
    return compression_problem(**task, latency=None).accuracies(rows, jobs=1).tolist()


if __name__ == "__main__":
    main()
