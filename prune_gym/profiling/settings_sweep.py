"""Time two ONNX models with several batch sizes and numbers of threads.

``python -m prune_gym.profiling.settings_sweep BEFORE.onnx AFTER.onnx BATCH THREADS`` measures one
setting in a process of its own, because ONNX Runtime cannot change the threads of a process.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from prune_gym.profiling.onnx_session import open_session, share_threads
from prune_gym.profiling.paired_timing import Compared, Spread, interleaved
from prune_gym.profiling.rapl import Rapl, millijoules_per_call

BATCHES, THREADS = (1, 8, 32), (1, 2)
ENERGY_TURNS, ENERGY_SECONDS = 10, 0.2


@dataclass(frozen=True)
class SettingMeasured:
    """Two networks in ONNX Runtime with one batch size and number of threads.

    Attributes:
        batch: images in a call.
        threads: of the processor.
        latency: ms of a call.
        energy: mJ of a call of (before, after); None where the machine does not tell.
    """

    batch: int
    threads: int
    latency: Compared
    energy: tuple[Spread, Spread] | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def sweep(before: Path, after: Path) -> list[SettingMeasured]:
    """Measure two models in all settings, each in a new process.

    Raises:
        RuntimeError: a process failed.
    """
    return [_in_process(before, after, batch, t) for t in THREADS for batch in BATCHES]


def _in_process(before: Path, after: Path, batch: int, threads: int) -> SettingMeasured:
    command = [sys.executable, "-m", __name__, str(before), str(after), str(batch), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"measuring {after} failed: {done.stderr.strip()}")
    found = json.loads(done.stdout)
    latency = Compared(*(Spread(**found["latency"][key]) for key in ("before", "after", "factor")))
    energy = found["energy"] and tuple(Spread(**each) for each in found["energy"])
    return SettingMeasured(batch, threads, latency, energy)


def _measure(before: str, after: str, batch: int, threads: int) -> SettingMeasured:
    share_threads(threads)
    rng, runs = np.random.default_rng(0), []
    for model in (before, after):
        session = open_session(model, threads)
        entry = session.get_inputs()[0]
        images = rng.random((batch, *entry.shape[1:]), dtype=np.float32)
        runs.append(partial(session.run, None, {entry.name: images}))
    latency, rapl, energy = interleaved(runs[0], runs[1]), Rapl(), None
    if rapl:
        turns = [
            [millijoules_per_call(run, ENERGY_SECONDS, rapl) for run in runs]
            for _ in range(ENERGY_TURNS)
        ]
        first, second = np.array(turns).T
        energy = Spread.of(first), Spread.of(second)
    return SettingMeasured(batch, threads, latency, energy)


if __name__ == "__main__":
    first, second, images, processors = sys.argv[1:]
    print(json.dumps(_measure(first, second, int(images), int(processors)).as_dict()))
