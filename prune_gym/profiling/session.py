"""What a runtime does with a network: load it once, call it often, time its nodes."""

from typing import Any, NamedTuple, Protocol

import numpy as np

from prune_gym.graph.input_shapes import InputShape, InputShapes, Shape, kind_of
from prune_gym.graph.inputs import Inputs


class Session(Protocol):
    """A network, ready to be called again and again on one random input."""

    def run(self) -> object:
        """Call the network once."""
        ...

    def run_profiled(self) -> object:
        """Call the network once and record the time of every node."""
        ...

    def node_times(self) -> tuple[list[str], np.ndarray]:
        """Return the layer of each node, and the recorded ms as float64 (calls, nodes)."""
        ...


class Setting(NamedTuple):
    """How networks are called: batch size, image shape (C, H, W), and processor threads."""

    batch: int
    input_shape: InputShape
    threads: int

    def images(self) -> Any:
        """Return random images, float32 (N, C, H, W); of texts, ids of the first token.

        Of several inputs, all of them; booleans are true.
        """
        if isinstance(self.input_shape, InputShapes):
            each = zip(self.input_shape.shapes, self.input_shape.kinds, strict=True)
            return Inputs(tuple(self._numbers(*one) for one in each), self.input_shape.names)
        return self._numbers(self.input_shape, kind_of(self.input_shape))

    def _numbers(self, shape: Shape, kind: str) -> np.ndarray:
        shape = (self.batch, *shape)
        if kind == "float":
            return np.random.default_rng(0).random(shape, dtype=np.float32)
        return np.ones(shape, dtype=bool) if kind == "bool" else np.zeros(shape, dtype=np.int64)
