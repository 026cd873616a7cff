"""Write networks as files that other programs run: ONNX, torch.export, TorchScript, ExecuTorch."""

import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from prune_gym._utils.paths import write_atomically
from prune_gym.datasets import AnyData, Data
from prune_gym.datasets.checks import are_ids
from prune_gym.datasets.from_arrays import OWN_FLOATS
from prune_gym.datasets.normalize import normalize
from prune_gym.deployment.deployable import Deployable, folded
from prune_gym.deployment.int8 import quantize_onnx
from prune_gym.errors import UserError, unknown
from prune_gym.graph.input_shapes import InputShape, InputShapes
from prune_gym.graph.inputs import (
    Inputs,
    Tensors,
    argument_names,
    arguments,
    feed,
    ordered,
    shape_of,
)
from prune_gym.graph.symbolic import by_position
from prune_gym.profiling.executorch_program import import_executorch, to_executorch
from prune_gym.profiling.onnx_session import import_onnxruntime, open_session

CHECKED = 64  # images of the search split, at most
TOLERANCE = 1e-3  # of the largest output
INPUT = "images"

Runner = Callable[[Any], list[np.ndarray]]  # of an array, or several in `Inputs`


@dataclass(frozen=True)
class Exported:
    """A network that was written in another format.

    Attributes:
        file: the file.
        form: a name out of `FORMATS`.
        int8: whether its layers are of 8 bits.
        num_bytes: size of the file.
        num_images: images of the search split on which it was compared with PyTorch in float32.
        difference: largest difference of an output, as a share of the largest output.
        same_class: share of those images with the same class; None but for classifiers in int8.
        input_shape: (C, H, W) of an image, or the shapes of several inputs.
        normalization: what is to be done with an image's pixels before.
    """

    file: Path
    form: str
    int8: bool
    num_bytes: int
    num_images: int
    difference: float
    same_class: float | None
    input_shape: InputShape
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
        if isinstance(self.input_shape, InputShapes):
            inputs = f"Inputs, each with a dimension of examples before it: {self.input_shape}"
            return "\n".join([*lines, f"{inputs}; {self.normalization}."])
        shape = ", ".join(map(str, self.input_shape))
        dtype = "int64" if len(self.input_shape) == 1 else "float32"
        count = 1 if self.form == "executorch" else "N"
        return "\n".join([*lines, f"Input: {dtype} ({count}, {shape}), {self.normalization}."])


def export(given: Deployable, form: str, int8: bool, out: Path) -> Exported:
    """Write a network in another format and compare it with PyTorch.

    It takes any number of images, normalized as its data say; an ExecuTorch program takes one. A
    strategy's bits, or ``int8``, make an ONNX model of 8-bit layers, calibrated on training images.

    Args:
        given: the network, and the data that say how images are normalized.
        form: onnx, torch (a ``torch.export`` program), torchscript or executorch.
        int8: quantize though the strategy says no bits.
        out: the file.

    Raises:
        MissingExtraError: ``prune-gym[onnx]``, or ``prune-gym[executorch]``, is not installed.
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
    content, runner = FORMATS[form].write(network, images)
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
        ours = runner(_arrays(images))[0].argmax(1)
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
    images = data.search.images
    if isinstance(images, Inputs):
        each = enumerate(zip(images.parts, data.mean, data.std, strict=True))
        names = images.names or [f"input {at}" for at in range(len(images.parts))]
        return "; ".join(
            f"{names[at]}: {_of_pixels(mean, std) if part.dtype == np.uint8 else 'as it is'}"
            for at, (part, mean, std) in each
        )
    return "token ids" if are_ids(images) else _of_pixels(data.mean, data.std)


def _of_pixels(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    return f"pixels / 255, less the mean {mean}, over the deviation {std}"


def check_images(data: AnyData) -> Tensors:
    """Return normalized search images, float32 (CHECKED, C, H, W), or several inputs."""
    return tree_map(torch.Tensor.contiguous, normalize(data.search.images[:CHECKED], data))


def _arrays(images: Tensors) -> Any:
    return tree_map(torch.Tensor.numpy, images)


def compare(runner: Runner, network: nn.Module, images: Tensors) -> float:
    """Return the largest difference of any output, as a share of the largest output."""
    ours = outputs_of(network, images)
    pairs = zip(runner(_arrays(images)), ours, strict=True)
    return max(
        float(np.abs(each - our).max() / max(np.abs(our).max(), 1e-12)) for each, our in pairs
    )


@torch.inference_mode()
def outputs_of(network: Callable[..., Any], images: Tensors) -> list[np.ndarray]:
    """Return a network's outputs as arrays, those of tuples, lists and dictionaries in order."""
    return [each.numpy() for each in tree_leaves(feed(network, images))]


def to_current_onnx(network: nn.Module, images: Tensors) -> bytes:
    """Return an ONNX model for any number of images, by PyTorch's current exporter.

    Args:
        network: in eval mode.
        images: examples, at least two, (N, C, H, W), or several inputs.

    Raises:
        MissingExtraError: onnxscript, which the exporter needs, is not installed.
    """
    import_onnxruntime("onnxscript")
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own parts
        args, kwargs = arguments(network, images[:2])
        program = torch.onnx.export(
            network,
            args,
            kwargs=kwargs,
            input_names=argument_names(network, images) if isinstance(images, Inputs) else [INPUT],
            dynamic_shapes=_any_number(images),
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
    session = open_session(model)

    def run(images: Any) -> list[np.ndarray]:
        given = images.names if isinstance(images, Inputs) else ()
        names = given or [each.name for each in session.get_inputs()]
        return session.run(None, dict(zip(names, tree_leaves(images), strict=True)))

    return run


def _any_number(images: Tensors) -> tuple[dict[int, Any], ...]:
    """Return that the first dimension of every input is the number of examples."""
    return ({0: torch.export.Dim("batch")},) * len(tree_leaves(images))


def _as_onnx(network: nn.Module, images: Tensors) -> tuple[bytes, Runner]:
    model = to_current_onnx(network, images)
    return model, onnx_runner(model)


def _as_program(network: nn.Module, images: Tensors) -> tuple[bytes, Runner]:
    # The file carries its example, with all that a view is of: zeros, and no images of anybody.
    args, kwargs = arguments(network, tree_map(torch.zeros_like, images[:2]))
    program = torch.export.export(network, args, kwargs, dynamic_shapes=_any_number(images))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    again = torch.export.load(file).module()
    return file.getvalue(), lambda arrays: outputs_of(again, tree_map(torch.from_numpy, arrays))


def _as_script(network: nn.Module, images: Tensors) -> tuple[bytes, Runner]:
    network = by_position(network, shape_of(images))
    args, _ = arguments(network, images[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        file = io.BytesIO()
        torch.jit.save(torch.jit.freeze(torch.jit.trace(network, args, strict=False)), file)
        file.seek(0)
        again = torch.jit.load(file)
    return file.getvalue(), lambda arrays: outputs_of(again, tree_map(torch.from_numpy, arrays))


def _as_executorch(network: nn.Module, images: Tensors) -> tuple[bytes, Runner]:
    network = by_position(network, shape_of(images))
    program = to_executorch(network, arguments(network, tree_map(torch.zeros_like, images[:1]))[0])
    load = import_executorch("extension.pybindings.portable_lib")._load_for_executorch_from_buffer
    module = load(program)

    def run(arrays: Any) -> list[np.ndarray]:
        inputs = [torch.from_numpy(each) for each in ordered(network, arrays)]
        rows = [
            module.forward(one) for one in zip(*(each.split(1) for each in inputs), strict=True)
        ]
        return [torch.cat(each).numpy() for each in zip(*rows, strict=True)]

    return program, run


class Format(NamedTuple):
    """A format of files.

    Attributes:
        suffix: of the file.
        write: returns what the file holds, and what runs it, of a network and example images.
        require: raises `MissingExtraError` where an extra is not installed.
    """

    suffix: str
    write: Callable[[nn.Module, Tensors], tuple[bytes, Runner]]
    require: Callable[[], object] = lambda: None


FORMATS = {
    "onnx": Format(".onnx", _as_onnx, partial(import_onnxruntime, "onnxscript")),
    "torch": Format(".pt2", _as_program),
    "torchscript": Format(".pt", _as_script),
    "executorch": Format(".pte", _as_executorch, partial(import_executorch, "exir")),
}
