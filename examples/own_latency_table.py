"""A latency table made by yourself, for a device or runtime that the package does not know.

    python examples/own_latency_table.py

Each layer is timed alone, here by PyTorch on this machine. In your own table the times come from
your device. docs/latency.md has the file format. For this machine ``prune-gym profile`` is better:
it times layers inside whole networks.
"""

import argparse
import json
import re
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from torch import nn

import prune_gym  # noqa: F401  registers the environments
from prune_gym.costs.latency import signatures

SIGNATURE = re.compile(
    r"(?P<kind>\w+) (?P<kernel>\d+)x\d+ stride (?P<stride>\d+) "
    r"on (?P<height>\d+)x(?P<width>\d+), (?P<inputs>\d+) to (?P<outputs>\d+)"
)


@torch.inference_mode()
def milliseconds(layer: nn.Module, shape: tuple[int, ...], calls: int = 20) -> float:
    """Return the median time of a call."""
    images = torch.zeros(1, *shape)
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        layer(images)
        times.append(1e3 * (time.perf_counter() - started))
    return float(np.median(times))


def entry(signature: str) -> dict:
    """Return the times of one layer over its input and output channels."""
    found = SIGNATURE.match(signature)
    assert found is not None
    size = {name: int(value) for name, value in found.groupdict().items() if name != "kind"}
    kernel, stride = size["kernel"], size["stride"]
    pixels = (size["height"], size["width"])
    outputs = sorted({max(size["outputs"] // 8, 1), size["outputs"]})
    if found["kind"] == "pool":  # one output channel reads one input channel
        times = [milliseconds(nn.MaxPool2d(kernel, stride), (count, *pixels)) for count in outputs]
        return {"inputs": [1], "outputs": outputs, "milliseconds": [times]}
    inputs = sorted({max(size["inputs"] // 8, 1), size["inputs"]})
    times = [
        [
            milliseconds(nn.Linear(i, o), (i,))
            if found["kind"] == "linear"
            else milliseconds(nn.Conv2d(i, o, kernel, stride, kernel // 2), (i, *pixels))
            for o in outputs
        ]
        for i in inputs
    ]
    return {"inputs": inputs, "outputs": outputs, "milliseconds": times}


def main(arguments: list[str] | None = None) -> None:
    """Time the layers of a small network, write the table, and use it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("my-device.json"))
    out = parser.parse_args(arguments).out

    table = gym.make("ChannelPrune-Table-v0").unwrapped.problem.evaluator.table
    layers = {signature: entry(signature) for signature in set(signatures(table).values())}
    about = {"format": "prune-gym-latency-2", "device": "this machine, layer by layer"}
    out.write_text(json.dumps({**about, "layers": layers}, indent=1))

    objectives = ("accuracy", "latency")
    env = gym.make("ChannelPrune-Table-v0", latency=str(out), objectives=objectives)
    env.reset(seed=0)
    terminated = False
    while not terminated:
        _, _, terminated, _, info = env.step(np.array([-0.5], dtype=np.float32))
    original = env.unwrapped.problem.original
    print(f"latency {original['latency_ms']:.3f} ms before, {info['latency_ms']:.3f} ms after")
    print(f"accuracy {original['accuracy']:.1%} before, {info['accuracy']:.1%} after")


if __name__ == "__main__":
    main()
