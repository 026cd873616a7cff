"""``python -m prune_gym.profiling.peak_memory MODEL.onnx BATCH``: bytes that a model needs to run.

Printed is by how much the peak of the process's resident memory rises over what it is with ONNX
Runtime imported and nothing loaded, as the kernel tells it (``/proc``, so on Linux alone).
"""

import re
import subprocess
import sys
from pathlib import Path

CALLS = 3
STATUS = Path("/proc/self/status")


def peak_memory(model: Path, batch: int) -> int:
    """Return the bytes that ``model`` needs, measured in a process of its own.

    Raises:
        RuntimeError: the process failed.
    """
    command = [sys.executable, "-m", __name__, str(model), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {model} failed: {done.stderr.strip()}")
    return int(done.stdout)


def _rise(model: str, batch: int) -> int:
    import numpy as np
    import onnxruntime

    before = _resident("VmRSS")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    images = np.zeros((batch, *entry.shape[1:]), dtype=np.float32)
    for _ in range(CALLS):
        session.run(None, {entry.name: images})
    return _resident("VmHWM") - before


def _resident(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None, f"{STATUS} has no {key}"
    return int(found[1]) * 1024


if __name__ == "__main__":
    print(_rise(sys.argv[1], int(sys.argv[2])))
