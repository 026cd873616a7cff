"""The command ``prune-gym``: envs, apply, validate, pretrain, pretrain-detector, profile."""

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
    from envs_registry import ENVS, VARIANTS, VERSION

    rows: list[tuple[str, ...]] = [("id", "network", "data", "decides")]
    for name, kwargs in ENVS.items():
        given = (str(kwargs.get(key, "yours")) for key in ("network", "data"))
        rows.append((f"{name}-{VERSION}", *given, ", ".join(kwargs.get("decide", ("channels",)))))
    for row in rows:  # whole, however narrow the screen: ids are there to be copied
        line = "{:<40}{:<24}{:<14}{}".format(*row)
        console.print(line, soft_wrap=True, highlight=False)
    others = ", ".join(variant for variant in VARIANTS if variant)
    console.print(f"Each also with {others} before -{VERSION}.", highlight=False)
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


def _pretrain_detector(options: argparse.Namespace, console: Console) -> int:
    from prune_gym.deploy.pretrain_detector import pretrain_detector

    pretrain_detector(options.out, progress=console.print)
    return 0


def _profile(options: argparse.Namespace, console: Console) -> int:
    from prune_gym import models
    from prune_gym.deploy.profile import profile
    from prune_gym.deploy.runtimes import Setting

    if options.check:
        return _check_latency(options, console)
    if not options.device:
        raise ValueError("--device is missing: what to call this machine in the table")
    for name in options.network or ["vgg16"]:
        network = models.build(name, 10)
        shape = models.NETWORKS[name].input_shape
        setting = Setting(options.batch, shape, options.threads)
        profile(
            network,
            name=name,
            device=options.device,
            runtime=options.runtime,
            setting=setting,
            out=options.out,
        )
    use = escape(f'Wrote {options.out}; use it with gym.make(..., latency="{options.out}")')
    console.print(use, soft_wrap=True)
    return 0


def _check_latency(options: argparse.Namespace, console: Console) -> int:
    from prune_gym import models
    from prune_gym.costs.latency import load_latency_table
    from prune_gym.deploy.check import check

    latency = load_latency_table(options.latency or str(options.out))
    for name in options.network or ["vgg16"]:
        network = models.build(name, 10)
        result = check(network, latency, models.NETWORKS[name].input_shape, seed=options.seed)
        title = f"{name}: {latency.about['device']}, {latency.about['runtime']}"
        table = Table("predicted ms", "measured ms", "error", "error of the share", title=title)
        columns = (result.predicted, result.measured, result.errors, result.relative_errors)
        for predicted, measured, error, relative in zip(*columns, strict=True):
            table.add_row(
                f"{predicted:.3f}", f"{measured:.3f}", f"{error:+.1%}", f"{relative:+.1%}"
            )
        console.print(table)
        console.print(f"{name}: {result}", highlight=False, soft_wrap=True)
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

    detector = commands.add_parser("pretrain-detector", help="train the narrow YOLOv3 that ships")
    detector.add_argument(
        "--out", type=Path, default=Path("yolov3_eighth-digit-scenes.safetensors")
    )
    detector.set_defaults(run=_pretrain_detector)

    profile = commands.add_parser("profile", help="measure a latency table on this machine")
    profile.add_argument("--network", action="append", help="repeatable; default: vgg16")
    profile.add_argument("--runtime", default="onnxruntime")
    profile.add_argument("--threads", type=int, default=2)
    profile.add_argument("--batch", type=int, default=1)
    profile.add_argument("--device", help="what to call this machine in the table")
    profile.add_argument("--out", type=Path, default=Path("latency.json"))
    profile.add_argument(
        "--check", action="store_true", help="measure random strategies and compare with a table"
    )
    profile.add_argument(
        "--latency", help="the table to check, shipped name or path; default: --out"
    )
    profile.add_argument("--seed", type=int, default=0, help="of the strategies of --check")
    profile.set_defaults(run=_profile)
    return parser


if __name__ == "__main__":
    sys.exit(main())
