"""``prune-gym measure``: the original and the compressed network side by side."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from prune_gym._utils.formatting import format_change, format_metric
from prune_gym.cli.comparison import plain
from prune_gym.cli.functions import add_functions, functions
from prune_gym.cli.values import new_file, positive

if TYPE_CHECKING:
    from prune_gym.deployment.before_after import Measured
    from prune_gym.profiling.paired_timing import Spread

HELP = "measure the original and the compressed network side by side"
ROWS = {
    "flops": "multiply-adds",
    "params": "parameters",
    "file_bytes": "file",
    "peak_memory_bytes": "peak memory",
}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("source", type=Path, metavar="STRATEGY.json|NETWORK.safetensors")
    add("--weights", type=Path, metavar="FILE.safetensors", help="a strategy's fine-tuned weights")
    add_functions(parser)
    add("--onnx", type=Path, metavar="FILE.onnx", help="what is deployed; default: exported now")
    add("--threads", type=positive, default=2)
    add("--batch", type=positive, default=1)
    add("--sweep", action="store_true", help="1, 8 and 32 images, 1 and 2 threads, and energy")
    add("--out", type=new_file, metavar="FILE.json", help="write the figures there too")


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, print and write."""
    from prune_gym.deployment.before_after import measure

    files = (options.source, options.weights, options.onnx)
    measured = measure(
        *files, options.threads, options.batch, sweep=options.sweep, **functions(options)
    )
    console.print(_table(measured))
    if measured.settings:
        console.print(_settings_table(measured))
    about = measured.about
    console.print(
        f"Latency: median (quartiles) of calls of {about['batch']} image(s) on {about['threads']} "
        f"thread(s), the two networks in turn. Peak memory: what the resident memory of a process "
        "rises to when ONNX Runtime loads and runs the file. File: ONNX.",
        soft_wrap=True,
        highlight=False,
    )
    if options.out is not None:
        measured.save(options.out)
        console.print(f"Wrote {options.out}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _table(measured: "Measured") -> Table:
    about = measured.about
    title = plain(f"{about['task']}: {about['network']}")
    table = Table("", "before", "after", "change", title=title)
    labels = ROWS | {"accuracy": f"{about['score']}, test split"}
    for metric, (before, after) in measured.values.items():
        cells = (format_metric(value, metric) for value in (before, after))
        table.add_row(labels[metric], *cells, format_change(before, after, metric))
    for runtime, each in measured.latency.items():
        cells = (_cell(spread, " ms") for spread in (each.before, each.after))
        table.add_row(f"latency, {runtime}", *cells, _cell(each.factor, "x as fast"))
    return table


def _settings_table(measured: "Measured") -> Table:
    has_energy = measured.settings[0].energy is not None
    columns = ("images", "threads", "before", "after", "change")
    energies = ("energy before", "energy after") if has_energy else ()
    table = Table(*columns, *energies, title="ONNX Runtime")
    for each in measured.settings:
        latency = each.latency
        cells = [_cell(latency.before, " ms"), _cell(latency.after, " ms")]
        cells += [_cell(latency.factor, "x as fast")]
        cells += [_cell(spread, " mJ") for spread in each.energy or ()]
        table.add_row(str(each.batch), str(each.threads), *cells)
    return table


def _cell(spread: "Spread", unit: str) -> str:
    return f"{spread.median:.3g}{unit} ({spread.low:.3g} to {spread.high:.3g})"
