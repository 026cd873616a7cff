"""``prune-gym profile``: measure a latency table on this machine, or check one."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prune_gym.cli.values import input_shape, natural_number, new_file, positive
from prune_gym.errors import UserError

if TYPE_CHECKING:
    from torch import nn

RUNTIME, THREADS, BATCH = "onnxruntime", 2, 1
HELP = "measure a latency table on this machine"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("--network", action="append", help="repeatable; default: vgg16; your own: module:function")
    add("--shape", type=input_shape, help="image shape of your own network, such as 3x32x32")
    add("--runtime", help=f"default: {RUNTIME}")
    add("--threads", type=positive, help=f"default: {THREADS}")
    add("--batch", type=positive, help=f"default: {BATCH}")
    add("--int8", action="store_true", help="measure int8 layers and conversions too")
    add("--device", help="name of this machine in the table")
    add(
        "--signatures",
        action="store_true",
        help="list the layers to time, measure nothing",
    )
    add("--out", type=new_file, default=Path("latency.json"))
    add("--check", action="store_true", help="time random strategies and compare with a table")
    add("--latency", help="the table to check, shipped name or path; default: --out")
    add("--seed", type=natural_number, default=0, help="seed of the strategies of --check")


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure a table, check one, or list signatures."""
    from prune_gym.cli.progress import shown_progress
    from prune_gym.profiling.profile_network import profile
    from prune_gym.profiling.session import Setting

    if options.signatures:
        return _list_signatures(options, console)
    if options.check:
        return _check_latency(options, console)
    if not options.device:
        raise UserError("--device is missing: give this machine a name for the table")
    for name, network, shape in _networks(options):
        setting = Setting(options.batch or BATCH, shape, options.threads or THREADS)
        runtime = options.runtime or RUNTIME
        with shown_progress(console, f"{name} in {runtime}") as on_progress:
            profile(
                network,
                name=name,
                device=options.device,
                runtime=runtime,
                setting=setting,
                out=options.out,
                int8=options.int8,
                on_progress=on_progress,
            )
    use = escape(f'Wrote {options.out}; use it with gym.make(..., latency="{options.out}")')
    console.print(use, soft_wrap=True)
    return 0


def _list_signatures(options: argparse.Namespace, console: Console) -> int:
    """Print the signature of every layer that takes time, one per line, each once."""
    from prune_gym.costs.latency import signatures
    from prune_gym.graph.trace import trace

    tables = [trace(network.eval(), shape) for _, network, shape in _networks(options)]
    for signature in dict.fromkeys(key for each in tables for key in signatures(each).values()):
        console.print(signature, markup=False, highlight=False, soft_wrap=True)
    return 0


def _check_latency(options: argparse.Namespace, console: Console) -> int:
    from prune_gym.cli.progress import shown_progress
    from prune_gym.costs.latency import load_latency_table
    from prune_gym.profiling.check_latency_table import SETTING, check, require_setting

    latency = load_latency_table(options.latency or str(options.out))
    require_setting(latency)
    for name in SETTING:
        given, measured = getattr(options, name), latency.about[name]
        if given not in (None, measured):
            raise UserError(f"--{name}: the table was measured with {measured}, got {given}")
    for name, network, shape in _networks(options):
        with shown_progress(console, latency.about["runtime"]) as on_progress:
            result = check(
                network,
                latency,
                shape,
                seed=options.seed,
                mixed=options.int8,
                on_progress=on_progress,
            )
        mixed = ", layers of 8 and 32 bits" if options.int8 else ""
        title = f"{name}{mixed}: {latency.about['device']}, {latency.about['runtime']}"
        table = Table("predicted ms", "measured ms", "error", "error of the share", title=title)
        columns = (result.predicted, result.measured, result.errors, result.relative_errors)
        for predicted, measured, error, relative in zip(*columns, strict=True):
            table.add_row(
                f"{predicted:.3f}", f"{measured:.3f}", f"{error:+.1%}", f"{relative:+.1%}"
            )
        console.print(table)
        console.print(f"{name}: {result}", highlight=False, soft_wrap=True)
        if result.warning:
            console.print(f"[yellow]warning: {result.warning}", highlight=False, soft_wrap=True)
    return 0


def _networks(
    options: argparse.Namespace,
) -> list[tuple[str, "nn.Module", tuple[int, ...]]]:
    """Return name, network and image shape (C, H, W) of every ``--network``.

    All are built first, so a wrong name is refused before minutes of measuring.
    """
    from torch import nn

    from prune_gym import models
    from prune_gym._utils.plugins import call_named

    names = options.network or ["vgg16"]
    own_network = any(":" in name for name in names)
    found = []
    for name in names:
        if ":" not in name:
            built, shape = models.build(name, 10), models.NETWORKS[name].input_shape
            if options.shape not in (None, shape) and not own_network:
                wanted = "x".join(map(str, shape))
                raise UserError(f"--shape is for your own networks only; {name} takes {wanted}")
            found.append((name, built, shape))
        elif options.shape:
            own = call_named(name, (nn.Module,), "network").eval()
            found.append((name, own, options.shape))
        else:
            raise UserError(f"--shape is missing: give the image shape of {name}, such as 3x32x32")
    return found
