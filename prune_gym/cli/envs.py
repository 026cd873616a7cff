"""``prune-gym envs``: the environment ids."""

import argparse

from rich.console import Console

from envs_registry import ENVS, VARIANTS, VERSION

HELP = "list the environment ids"


def options(parser: argparse.ArgumentParser) -> None:
    """Take no options."""


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the table."""
    rows: list[tuple[str, ...]] = [("id", "network", "data", "decides")]
    for name, kwargs in ENVS.items():
        given = (kwargs[key] or "yours" for key in ("network", "data"))
        rows.append((f"{name}-{VERSION}", *given, ", ".join(kwargs.get("decide", ("channels",)))))
    for row in rows:  # whole, however narrow the screen: ids are there to be copied
        line = "{:<40}{:<24}{:<14}{}".format(*row)
        console.print(line, soft_wrap=True, highlight=False)
    others = ", ".join(variant for variant in VARIANTS if variant)
    console.print(f"Each also with {others} before -{VERSION}.", highlight=False)
    return 0
