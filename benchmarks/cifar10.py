"""Search, choose and fine-tune: CIFAR-10 networks at given shares of their costs.

    PRUNE_GYM_HOME=... python benchmarks/cifar10.py --out DIR --network vgg16 --limit flops=0.2
    python benchmarks/cifar10.py --out DIR --collect benchmarks/results/cifar10/finetuned.csv

The first brings one cell to its end by the commands that a user types, and prints them:
``train.py``, ``prune-gym choose`` and ``prune-gym finetune``. What is there already is not done
again, so several processes can work in the same folder on cells of their own. One search of the
envelope DDPG serves all limits (it searches within ``WIDEST``); every other agent searches each
limit anew, as its budgets, with as many evaluations. Taken is the strategy that is the most
accurate one within the limits on the search split, without training. The second writes a line for
every finished cell.
"""

import argparse
import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from prune_gym.cli.values import pair

ROOT = Path(__file__).resolve().parent.parent
ENVS = {
    "vgg16": "ChannelPrune-VGG16-CIFAR10-v0",
    "resnet56": "ChannelPrune-ResNet56-CIFAR10-v0",
}
METRICS = {"flops": "flops", "latency": "latency_ms", "memory": "memory_bytes", "params": "params"}
ONE_SEARCH = "envelope-ddpg"  # its front holds every limit
WIDEST = {"flops": 0.5}


def run(command: list[str]) -> None:
    """Print a command and run it."""
    print("$", shlex.join(command), flush=True)
    subprocess.run(command, check=True)


def cell(options: argparse.Namespace) -> None:
    """Bring one cell to its end."""
    limits, seed = dict(options.limit), options.seed
    budgets = WIDEST if options.agent == ONE_SEARCH else limits
    search = options.out / _name(options.network, options.agent, budgets, seed)
    if not (search / "front.csv").is_file():
        command = [sys.executable, str(ROOT / "train.py"), "--env", ENVS[options.network]]
        command += ["--agent", options.agent, "--episodes", str(options.evaluations)]
        command += ["--seed", str(seed), "--run", str(search)]
        for cost, share in budgets.items():
            command += ["--budget", f"{cost}={share:g}"]
        run(command + (["--resume"] if (search / "config.json").is_file() else []))
    prune_gym = [sys.executable, "-m", "prune_gym.cli"]
    chosen = options.out / f"{_name(options.network, options.agent, limits, seed)}.json"
    if not chosen.is_file():
        command = [*prune_gym, "choose", str(search)]
        for cost, share in limits.items():
            command += ["--max", f"{METRICS[cost]}={100 * share:g}%"]
        run([*command, "--out", str(chosen)])
    tuned = chosen.with_name(f"{chosen.stem}-{options.recipe}.safetensors")
    if not tuned.with_suffix(".json").is_file():
        command = [*prune_gym, "finetune", str(chosen), "--recipe", options.recipe]
        run([*command, "--seed", str(seed), "--out", str(tuned)])


def _name(network: str, agent: str, limits: dict[str, float], seed: int) -> str:
    stated = "-".join(f"{cost}{share:g}" for cost, share in limits.items())
    return f"{network}-{agent}-{stated}-seed{seed}"


def collect(folder: Path, out: Path) -> None:
    """Write what all finished cells came to."""
    rows = []
    for file in sorted(folder.glob("*-seed*-*.json")):
        name, recipe = file.stem.rsplit("-", 1)
        rows.append({"cell": name, "recipe": recipe, **_row(json.loads(file.read_text()))})
    with out.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _row(tuned: dict[str, Any]) -> dict[str, Any]:
    strategy, scores = tuned["strategy"], tuned["accuracy"]
    best = next(name for name in scores if name.startswith("best"))
    row: dict[str, Any] = {metric: strategy["metrics"][metric] for metric in METRICS.values()}
    row |= {"epochs": tuned["recipe"]["epochs"], "best_epoch": tuned["best_epoch"]}
    stages = {"original": "original", "pruned": "pruned, not trained", "tuned": best}
    for label, stage in stages.items():
        row |= {f"{label}_{split}": scores[stage][split] for split in ("search", "test")}
    return row


def main() -> None:
    """Do one cell, or collect all."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, required=True)
    add("--network", choices=ENVS, default="vgg16")
    add("--agent", default=ONE_SEARCH)
    add("--limit", type=pair, action="append", metavar="COST=SHARE")
    add("--evaluations", type=int, default=200)
    add("--recipe", default="short")
    add("--seed", type=int, default=0)
    add("--collect", type=Path, metavar="FILE.csv")
    options = parser.parse_args()
    if options.collect:
        collect(options.out, options.collect)
    else:
        cell(options)


if __name__ == "__main__":
    main()
