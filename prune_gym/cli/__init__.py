"""The command ``prune-gym``: one file per subcommand.

A subcommand is a module with ``HELP``, ``options(parser)`` and ``run(options, console)``, which
returns the exit status. It imports what is heavy inside ``run``, so that ``--help`` comes at once.
"""

import argparse
from importlib import import_module
from pathlib import Path

from rich.console import Console

from prune_gym import __version__
from prune_gym.cli.guard import guarded
from prune_gym.errors import UserError

# name -> module
COMMANDS = {
    "train": "prune_gym.cli.train",
    "envs": "prune_gym.cli.envs",
    "explain": "prune_gym.cli.explain",
    "apply": "prune_gym.cli.apply",
    "validate": "prune_gym.cli.validate",
    "pretrain": "prune_gym.cli.pretrain",
    "pretrain-detector": "prune_gym.cli.pretrain_detector",
    "profile": "prune_gym.cli.profile",
    "latency": "prune_gym.cli.latency",
    "library": "prune_gym.cli.library",
    "two-stage": "prune_gym.cli.two_stage",
    "finetune": "prune_gym.cli.finetune",
    "export": "prune_gym.cli.export",
    "measure": "prune_gym.cli.measure",
    "choose": "prune_gym.cli.choose",
    "report": "prune_gym.cli.report",
    "benchmark": "prune_gym.cli.benchmark",
    "benchmark-report": "prune_gym.cli.benchmark_report",
    "leaderboard": "prune_gym.cli.leaderboard",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; return the exit status.

    It is 0, 1 (not reproduced, or a cell of the benchmark failed), 2 (an error of the user) or 130
    (Ctrl-C).
    """
    console = Console()

    def run() -> int:
        options = make_parser().parse_args(arguments)
        _check_out(options)
        return options.command(options, console)

    return guarded(run, console)


def _check_out(options: argparse.Namespace) -> None:
    """Refuse to write over what is read."""
    out = getattr(options, "out", None)
    for name, given in vars(options).items():
        if out and name != "out" and isinstance(given, Path) and given.resolve() == out.resolve():
            raise UserError(f"--out: {out} is what is read; give another name")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="prune-gym",
        description="Environments, strategies and weights of prune-gym.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"prune-gym {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        command = import_module(module)
        subparser = commands.add_parser(name, help=command.HELP, allow_abbrev=False)
        command.options(subparser)
        subparser.set_defaults(command=command.run)
    return parser
