"""Try public networks: what can be cut, whether it is exact, and whether an episode replays.

    python benchmarks/zoo.py torchvision:resnet18 timm:efficientnet_b0
    python benchmarks/zoo.py --all --rows rows.jsonl

Every network has untrained weights, batch-norm statistics of random images, and a process of its
own, which is ended after so many ``--seconds`` of processor time. It is accepted if all of this
holds:

- an environment is made of it, and a cut to random widths computes in float64 what the original
  does when its layers do not read the removed channels. It is wrong by more than 1e-9, and by ten
  times what rounding the images does;
- an episode of random actions ends. The network of its strategy has the parameters that the episode
  says, and the multiply-adds that ``torch.utils.flop_counter`` counts;
- ``validate`` reproduces the strategy.

Torch-Pruning (``pip install --no-deps torch-pruning``) is asked for half of all channels. It takes
a network if that still runs with fewer parameters and outputs of the same shapes; ``--no-rival``
leaves it out. torchvision, timm and Torch-Pruning are no dependencies of the package: what is not
installed is left out.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import resource
import signal
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from zoo_checks import checked, rival
from zoo_networks import every_name, import_once

HEADER = """
| network | verdict | of the parameters | of the multiply-adds | groups | | Torch-Pruning |
|---|---|---|---|---|---|---|"""
TOTALS = """
| | networks | accepted | wrong cuts | tried with Torch-Pruning | taken by it | of these accepted |
|---|---|---|---|---|---|---|"""
PACKAGES = ("torch", "torchvision", "timm", "torch-pruning")
MOST_CHARACTERS = 160  # of a message


def main() -> int:
    """Try the networks and print a table of them in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--all", action="store_true", help="all networks that are installed")
    parser.add_argument("--seconds", type=int, default=600, help="for one network")
    parser.add_argument("--rival-seconds", type=int, default=120, help="for Torch-Pruning")
    parser.add_argument("--no-rival", action="store_true", help="leave Torch-Pruning out")
    parser.add_argument(
        "--rows", type=Path, help="file that keeps what is found; its networks are not tried again"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    import_once()
    with_rival = not options.no_rival and importlib.util.find_spec("torch_pruning")
    known = rows_in(options.rows)
    rows = []
    print(HEADER, flush=True)
    for name in options.names or (every_name() if options.all else []):
        row = dict(known.get(name, {}))
        row = row or {"name": name} | in_a_process(checked, name, options.seconds)
        if with_rival and "rival" not in row:
            row["rival"] = in_a_process(rival, name, options.rival_seconds)
        if row != known.get(name):
            keep(row, options.rows)
        rows.append(row)
        print(line_of(row), flush=True)
    print(TOTALS)
    for kind in dict.fromkeys(map(kind_of, rows)):
        print(total_of(kind, [row for row in rows if kind_of(row) == kind]))
    print(total_of("together", rows), f"\n\n{', '.join(versions())}")
    return int(any(row["verdict"] == "wrong" for row in rows))


def rows_in(file: Path | None) -> dict[str, dict[str, Any]]:
    """Return the rows that were kept, by name; of several the last."""
    lines = file.read_text().splitlines() if file is not None and file.exists() else []
    return {row["name"]: row for row in map(json.loads, lines)}


def keep(row: dict[str, Any], file: Path | None) -> None:
    """Append a row to the file, if there is one."""
    if file is not None:
        with file.open("a") as lines:
            lines.write(json.dumps(row) + "\n")


def line_of(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    shares = f"{share(row)} | {row.get('groups', '')}"
    line = f"| `{row['name']}` | {row['verdict']} | {shares} | {in_a_cell(row)} |"
    other = row.get("rival", {"verdict": ""})
    if other["verdict"] == "taken":
        return f"{line} {share(other).replace(' |', ',')} |"
    return f"{line} {other['verdict']}{': ' * bool(why := in_a_cell(other))}{why} |"


def in_a_cell(found: dict[str, Any]) -> str:
    """Return what is said about a network, in one line without bars."""
    return textwrap.shorten(found.get("about", ""), MOST_CHARACTERS).replace("|", "\\|")


def share(row: dict[str, Any]) -> str:
    """Return the shares of parameters and multiply-adds as two cells."""
    if "parameters" not in row:
        return " | "
    return f"{row['parameters']:.0%} | {row['multiply_adds']:.0%}"


def kind_of(row: dict[str, Any]) -> str:
    """Return the set that a network belongs to."""
    return row["name"].rpartition(":")[0]


def total_of(kind: str, rows: Iterable[dict[str, Any]]) -> str:
    """Return a row of the second table."""
    rows = list(rows)
    accepted = [row["verdict"] == "accepted" for row in rows]
    tried = [row for row in rows if "rival" in row]
    taken = [row for row in tried if row["rival"]["verdict"] == "taken"]
    also = sum(row["verdict"] == "accepted" for row in taken)
    wrong = sum(row["verdict"] == "wrong" for row in rows)
    return (
        f"| {kind} | {len(rows)} | {sum(accepted)} | {wrong} | {len(tried)} | {len(taken)} | "
        f"{also} |"
    )


def versions() -> Iterator[str]:
    """Yield the packages that are installed, with their versions."""
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            pass


def in_a_process(
    check: Callable[[str], Iterator[dict[str, Any]]], name: str, seconds: int
) -> dict[str, Any]:
    """Return what a check finds; a process of its own keeps memory, caches and crashes apart."""
    forking = multiprocessing.get_context("fork")
    ours, theirs = forking.Pipe(duplex=False)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        process = forking.Process(target=answer, args=(check, name, seconds, theirs, folder))
        process.start()
        theirs.close()
        try:
            while True:
                found |= ours.recv()
        except EOFError:
            process.join()
    if process.exitcode == -signal.SIGXCPU:
        found["about"] = f"more than {seconds} s of processor time"
    elif process.exitcode:
        found["about"] = f"its process ended with {process.exitcode}"
    return found


def answer(
    check: Callable[[str], Iterator[dict[str, Any]]],
    name: str,
    seconds: int,
    connection: Connection,
    folder: str,
) -> None:
    """Send what a check finds, within a limit of processor time."""
    os.environ["XDG_CACHE_HOME"] = folder
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 10))
    try:
        for part in check(name):
            connection.send(part)
    except Exception as error:  # whatever goes wrong in one network
        connection.send({"about": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    raise SystemExit(main())
