"""The command ``prune-gym``: envs, apply, validate, pretrain, profile."""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit status (0, 1: not reproduced, 2: an error)."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options, Console())
    except (ValueError, FileNotFoundError, ImportError, OSError) as error:
        Console(stderr=True).print(
            f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True
        )
        return 2


def _envs(options: argparse.Namespace, console: Console) -> int:
    from envs_registry import ENVS, env_ids

    table = Table("id", "network", "data")
    for env_id in env_ids():
        kwargs = next(kwargs for name, kwargs in reversed(ENVS.items()) if env_id.startswith(name))
        table.add_row(env_id, kwargs["network"], kwargs["data"])
    console.print(table)
    return 0


def _apply(options: argparse.Namespace, console: Console) -> int:
    from prune_gym.deploy.apply import apply

    apply(options.strategy, options.out or options.strategy.with_suffix(".safetensors"), console)
    return 0


def _validate(options: argparse.Namespace, console: Console) -> int:
    from prune_gym.deploy.apply import environment_of
    from prune_gym.objectives import natural
    from prune_gym.strategy import load_strategy

    strategy = load_strategy(options.strategy)
    result = environment_of(strategy).validate(strategy)
    table = Table("metric", "claimed", "found here", "", title=str(options.strategy))
    for claim in result.claims:
        verdict = "reproduced" if claim.reproduced else "NOT reproduced"
        claimed, found = (natural(v, claim.name) for v in (claim.claimed, claim.found))
        table.add_row(claim.name, claimed, found, verdict)
    console.print(table)
    return 0 if result.reproduced else 1


def _pretrain(options: argparse.Namespace, console: Console) -> int:
    from prune_gym.deploy.pretrain import pretrain
    from prune_gym.deploy.training import Recipe

    recipe = Recipe(
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        batch_size=options.batch_size,
        seed=options.seed,
    )
    out = options.out or Path(f"{options.network}-{options.data}.safetensors")
    pretrain(options.network, options.data, recipe, out, options.start_from, console)
    return 0


def _profile(options: argparse.Namespace, console: Console) -> int:
    from prune_gym import models
    from prune_gym.deploy.profile import profile
    from prune_gym.network.trace import trace

    table = trace(models.build(options.network, 10).eval(), (3, 32, 32))
    profile(
        table,
        device=options.device,
        runtime=options.runtime,
        threads=options.threads,
        batch=options.batch,
        out=options.out,
    )
    use = escape(f'Wrote {options.out}; use it with gym.make(..., latency="{options.out}")')
    console.print(use, soft_wrap=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="prune-gym", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    envs = commands.add_parser("envs", help="list the environment ids")
    envs.set_defaults(run=_envs)

    apply = commands.add_parser("apply", help="write a strategy's pruned network")
    apply.add_argument("strategy", type=Path, metavar="STRATEGY.json")
    apply.add_argument("--out", type=Path, help="default: beside the strategy, .safetensors")
    apply.set_defaults(run=_apply)

    validate = commands.add_parser("validate", help="replay a strategy and check its numbers")
    validate.add_argument("strategy", type=Path, metavar="STRATEGY.json")
    validate.set_defaults(run=_validate)

    pretrain = commands.add_parser("pretrain", help="train the weights an environment starts from")
    pretrain.add_argument("--network", default="vgg16")
    pretrain.add_argument("--data", default="digits")
    pretrain.add_argument("--epochs", type=int, default=100)
    pretrain.add_argument("--learning-rate", type=float, default=0.1)
    pretrain.add_argument("--batch-size", type=int, default=128)
    pretrain.add_argument("--seed", type=int, default=0)
    pretrain.add_argument("--from", dest="start_from", type=Path, metavar="WEIGHTS.safetensors")
    pretrain.add_argument("--out", type=Path, help="default: NETWORK-DATA.safetensors")
    pretrain.set_defaults(run=_pretrain)

    profile = commands.add_parser("profile", help="measure a latency table on this machine")
    profile.add_argument("--network", default="vgg16")
    profile.add_argument("--runtime", default="onnxruntime")
    profile.add_argument("--threads", type=int, default=2)
    profile.add_argument("--batch", type=int, default=1)
    profile.add_argument("--device", required=True, help="what to call this machine in the table")
    profile.add_argument("--out", type=Path, default=Path("latency.json"))
    profile.set_defaults(run=_profile)
    return parser


if __name__ == "__main__":
    sys.exit(main())
