"""The options that name the user's own network and data again.

A strategy or a network's file may name functions, which are called only where the user names them.
"""

import argparse
from typing import Any

NAMES = ("network", "data")


def add_functions(parser: argparse.ArgumentParser) -> None:
    """Add ``--network`` and ``--data``."""
    for name in NAMES:
        help = f"the {name}, where the file names a function: a file's own code is not run"
        parser.add_argument(f"--{name}", metavar="MODULE:FUNCTION", help=help)


def functions(options: argparse.Namespace) -> dict[str, Any]:
    """Return what was given, as arguments by name."""
    return {name: getattr(options, name) for name in NAMES}
