"""``prune-gym export``: a pruned network for other programs."""

import argparse
from pathlib import Path

from rich.console import Console

from prune_gym.cli.functions import add_functions, functions
from prune_gym.cli.values import new_file

HELP = "write a network as ONNX, torch.export program, TorchScript or ExecuTorch program"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("source", type=Path, metavar="STRATEGY.json|NETWORK.safetensors")
    add("--format", choices=("onnx", "torch", "torchscript", "executorch"), default="onnx")
    add("--int8", action="store_true", help="8-bit ONNX; a strategy with bits needs no --int8")
    add_functions(parser)
    add("--out", type=new_file, help="default: beside the source: .onnx, .pt2 (torch), .pt or .pte")


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the file and say how far it is from PyTorch."""
    from prune_gym.deployment.deployable import load_deployable
    from prune_gym.deployment.export import FORMATS, export

    form = FORMATS[options.format]
    form.require()  # before data are downloaded
    out = options.out or options.source.with_suffix(form.suffix)
    given = load_deployable(options.source, **functions(options))
    made = export(given, options.format, options.int8, out)
    console.print(str(made), markup=False, highlight=False, soft_wrap=True)
    return 0
