"""Write networks as files that other programs run: ONNX, torch.export and TorchScript."""

import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from prune_gym._utils.paths import write_atomically
from prune_gym.datasets import AnyData, Data
from prune_gym.datasets.checks import are_ids
from prune_gym.datasets.from_arrays import OWN_FLOATS
from prune_gym.datasets.normalize import normalize
from prune_gym.deployment.deployable import Deployable, folded
from prune_gym.deployment.int8 import quantize_onnx
from prune_gym.errors import UserError, unknown
from prune_gym.profiling.runtimes import import_onnxruntime, session_options

CHECKED = 64  # images of the search split, at most
TOLERANCE = 1e-3  # of the largest output
INPUT = "images"

Runner = Callable[[np.ndarray], list[np.ndarray]]


@dataclass(frozen=True)
class Exported:
    """A network that was written in another format.

    Attributes:
        file: the file.
        form: onnx, torch or torchscript.
        int8: whether its layers are of 8 bits.
        num_bytes: size of the file.
        num_images: images of the search split on which it was compared with PyTorch in float32.
        difference: largest difference of an output, as a share of the largest output.
        same_class: share of those images with the same class; None but for classifiers in int8.
        input_shape: (C, H, W) of an image.
        normalization: what is to be done with an image's pixels before.
    """

    file: Path
    form: str
    int8: bool
    num_bytes: int
    num_images: int
    difference: float
    same_class: float | None
    input_shape: tuple[int, ...]
    normalization: str

    def __str__(self) -> str:
        """Return three lines for people."""
        form = f"{self.form}, int8" if self.int8 else self.form
        lines = [
            f"Wrote {self.file} ({form}, {self.num_bytes / 1e6:.2f} MB). Largest difference from "
            f"PyTorch's outputs on {self.num_images} images: {self.difference:.1e} of the largest "
            "output."
        ]
        if self.same_class is not None:
            lines.append(
                f"Same class as PyTorch in float32 on {self.same_class:.1%} of them; `prune-gym "
                "measure` gives the accuracy."
            )
        shape = ", ".join(map(str, self.input_shape))
        dtype = "int64" if len(self.input_shape) == 1 else "float32"
        return "\n".join([*lines, f"Input: {dtype} (N, {shape}), {self.normalization}."])


def export(given: Deployable, form: str, int8: bool, out: Path) -> Exported:
    """Write a network in another format and compare it with PyTorch.

    It takes any number of images, normalized as its data say. A strategy's bits, or ``int8``, make
    an ONNX model of 8-bit layers, calibrated on training images.

    Args:
        given: the network, and the data that say how images are normalized.
        form: onnx, torch (a ``torch.export`` program) or torchscript.
        int8: quantize though the strategy says no bits.
        out: the file.

    Raises:
        MissingExtraError: ``prune-gym[onnx]`` is not installed.
        UserError: no such format; int8 in another one than ONNX; the written network does not
            compute what PyTorch does.
    """
    if form not in FORMATS:
        raise UserError(unknown("format", form, FORMATS))
    int8 = int8 or given.quantized
    if int8 and form != "onnx":
        why = "the strategy says bits" if given.quantized else "leave --int8 out"
        raise UserError(f"int8 is for --format onnx, not {form}; {why}")
    network, images = folded(given.network, given.input_shape), check_images(given.data)
    content, runner = FORMATS[form][1](network, images)
    if int8:
        content = quantize_onnx(content, given)
        runner = onnx_runner(content)
    difference = compare(runner, network, images)
    if not int8 and difference > TOLERANCE:
        raise UserError(
            f"the exported network's outputs differ from PyTorch's by {difference:.1e} of the "
            f"largest, more than {TOLERANCE:.0e}; nothing was written"
        )
    write_atomically(out, content)
    same_class = None
    if int8 and isinstance(given.data, Data):
        ours = runner(images.numpy())[0].argmax(1)
        same_class = float((ours == outputs_of(network, images)[0].argmax(1)).mean())
    return Exported(
        file=out,
        form=form,
        int8=int8,
        num_bytes=len(content),
        num_images=len(images),
        difference=difference,
        same_class=same_class,
        input_shape=given.input_shape,
        normalization=_normalization(given.data),
    )


def _normalization(data: AnyData) -> str:
    if data.name == OWN_FLOATS:
        return "as they were given to compress()"
    if are_ids(data.search.images):
        return "token ids"
    return f"pixels / 255, less the mean {data.mean}, over the deviation {data.std}"


def check_images(data: AnyData) -> torch.Tensor:
    """Return normalized search images, float32 (CHECKED, C, H, W)."""
    return normalize(data.search.images[:CHECKED], data).contiguous()


def compare(runner: Runner, network: nn.Module, images: torch.Tensor) -> float:
    """Return the largest difference of any output, as a share of the largest output."""
    ours = outputs_of(network, images)
    pairs = zip(runner(images.numpy()), ours, strict=True)
    return max(
        float(np.abs(each - our).max() / max(np.abs(our).max(), 1e-12)) for each, our in pairs
    )


@torch.inference_mode()
def outputs_of(network: Callable[[torch.Tensor], Any], images: torch.Tensor) -> list[np.ndarray]:
    """Return a network's outputs as arrays, those of tuples, lists and dictionaries in order."""
    return [each.numpy() for each in tree_leaves(network(images))]


def to_current_onnx(network: nn.Module, images: torch.Tensor) -> bytes:
    """Return an ONNX model for any number of images, by PyTorch's current exporter.

    Args:
        network: in eval mode.
        images: examples, at least two, (N, C, H, W).

    Raises:
        MissingExtraError: onnxscript, which the exporter needs, is not installed.
    """
    import_onnxruntime("onnxscript")
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own parts
        program = torch.onnx.export(
            network,
            (images[:2],),
            input_names=[INPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    # Where each node came from, with source lines and paths: up to half of a small file.
    for each in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del each.metadata_props[:]
    return model.SerializeToString()


def onnx_runner(model: bytes) -> Runner:
    """Return a function that runs a model in ONNX Runtime on images (N, C, H, W)."""
    runtime, providers = import_onnxruntime(), ["CPUExecutionProvider"]
    session = runtime.InferenceSession(model, session_options(), providers=providers)
    return lambda images: session.run(None, {INPUT: images})


def _as_onnx(network: nn.Module, images: torch.Tensor) -> tuple[bytes, Runner]:
    model = to_current_onnx(network, images)
    return model, onnx_runner(model)


def _as_program(network: nn.Module, images: torch.Tensor) -> tuple[bytes, Runner]:
    shapes = ({0: torch.export.Dim("batch")},)
    # The file carries its example, with all that a view is of: zeros, and no images of anybody.
    example = torch.zeros_like(images[:2])
    program = torch.export.export(network, (example,), dynamic_shapes=shapes)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    again = torch.export.load(file).module()
    return file.getvalue(), lambda array: outputs_of(again, torch.from_numpy(array))


def _as_script(network: nn.Module, images: torch.Tensor) -> tuple[bytes, Runner]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        file = io.BytesIO()
        torch.jit.save(torch.jit.freeze(torch.jit.trace(network, images[:2], strict=False)), file)
        file.seek(0)
        again = torch.jit.load(file)
    return file.getvalue(), lambda array: outputs_of(again, torch.from_numpy(array))


# name -> suffix of the file, and what writes it and runs what was written
FORMATS: dict[str, tuple[str, Callable[[nn.Module, torch.Tensor], tuple[bytes, Runner]]]] = {
    "onnx": (".onnx", _as_onnx),
    "torch": (".pt2", _as_program),
    "torchscript": (".pt", _as_script),
}
