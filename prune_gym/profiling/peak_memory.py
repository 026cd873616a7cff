"""Measure the peak memory of an ONNX model, in a process that runs nothing else.

``python -m prune_gym.profiling.peak_memory MODEL.onnx BATCH`` is that process.

It prints the rise of the resident memory of the process, in bytes: the peak while the model runs,
minus what ONNX Runtime takes before a model is loaded. Linux only, because it reads ``/proc``.
"""

import re
import subprocess
import sys
from pathlib import Path

CALLS = 3
STATUS = Path("/proc/self/status")


def peak_memory(model: Path, batch: int) -> int:
    """Return the bytes that ``model`` needs to run, measured in a new process.

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
