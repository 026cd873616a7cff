"""Search, choose and fine-tune: CIFAR-10 networks at given shares of their costs.

    PRUNE_GYM_HOME=... python benchmarks/cifar10.py --out DIR --network vgg16 --limit flops=0.2
    python benchmarks/cifar10.py --out DIR --collect benchmarks/results/cifar10/finetuned.csv

The first brings one cell to its end by the commands that a user types, and prints them:
``train.py``, ``prune-gym choose`` and ``prune-gym finetune``. What is there already is not done
again, so several processes can work in the same folder on cells of their own. One search of the
envelope DDPG serves all limits, and so does one uniform sweep (``SHARED``); every other agent
searches each limit anew, as its budgets, with as many evaluations; so do
``envelope-ddpg-accuracy``, which looks at nothing but accuracy within them, as ``compress`` does,
and ``uniform-clipped``, whose sweep cuts what exceeds them from the later layers.
Taken is the strategy that is the most accurate one within the limits on the search split, without
training. The second writes a line for every finished cell.
"""

import argparse
import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from prune_gym.cli.values import pair
from prune_gym.envs.replay import environment_of
from prune_gym.search_space.strategy import strategy_from_dict

ROOT = Path(__file__).resolve().parent.parent
ENVS = {
    "vgg16": "ChannelPrune-VGG16-CIFAR10-v0",
    "resnet20": "ChannelPrune-ResNet20-CIFAR10-v0",
    "resnet56": "ChannelPrune-ResNet56-CIFAR10-v0",
}
METRICS = {"flops": "flops", "latency": "latency_ms", "memory": "memory_bytes", "params": "params"}
CELL = re.compile(
    r"(?P<network>[a-z0-9]+)-(?P<agent>.+?)-(?P<limits>[a-z]+[\d.]+.*)-seed(?P<seed>\d+)-(?P<recipe>.+)"
)
# The budgets of searches whose front serves every limit. A tighter budget would cut what a uniform
# sweep proposes in the later layers only, and the strategy would not be uniform any more.
SHARED = {"ehvi-envelope-ddpg": {"flops": 0.5}, "uniform": {"flops": 1.0}}
VARIANTS = {  # by what train.py is told
    "envelope-ddpg-accuracy": ["--agent", "ehvi-envelope-ddpg", "--preference", "accuracy=1"],
    "uniform-clipped": ["--agent", "uniform"],
}


def run(command: list[str]) -> None:
    """Print a command and run it; where it fails it has said why, and this ends with its status."""
    print("$", shlex.join(command), flush=True)
    if status := subprocess.run(command).returncode:
        raise SystemExit(status)


def cell(options: argparse.Namespace) -> None:
    """Bring one cell to its end."""
    limits, seed = dict(options.limit), options.seed
    budgets = SHARED.get(options.agent, limits)
    search = options.out / _name(options.network, options.agent, budgets, seed)
    if not (search / "front.csv").is_file():
        command = [sys.executable, str(ROOT / "train.py"), "--env", ENVS[options.network]]
        command += VARIANTS.get(options.agent, ["--agent", options.agent])
        command += ["--episodes", str(options.evaluations), "--seed", str(seed)]
        command += ["--run", str(search)]
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
    """Write what all finished cells of the folder came to, beside the lines of others."""
    rows = {}
    for file in sorted(folder.glob("*-seed*-*.json")):
        if found := CELL.fullmatch(file.stem):
            name = found.groupdict()
            rows[tuple(name.values())] = name | _figures(json.loads(file.read_text()))
    if not rows:
        raise SystemExit(f"{folder} has no finished cell")
    finished = len(rows)
    if out.is_file():
        for row in csv.DictReader(out.open()):
            rows.setdefault(tuple(row[part] for part in CELL.groupindex), row)
    with out.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(next(iter(rows.values()))), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[name] for name in sorted(rows))
    print(f"Wrote {out}: {len(rows)} cells, {finished} of them from {folder}")


def _figures(tuned: dict[str, Any]) -> dict[str, Any]:
    """Return what ``prune-gym finetune`` wrote, as shares of the original's."""
    strategy, scores = strategy_from_dict(tuned["strategy"]), tuned["accuracy"]
    original = environment_of(strategy).problem.original
    row: dict[str, Any] = {
        f"{cost}_share": f"{strategy.metrics[metric] / original[metric]:.4f}"
        for cost, metric in METRICS.items()
    }
    row |= {"epochs": tuned["recipe"]["epochs"], "best_epoch": tuned["best_epoch"]}
    best = next(name for name in scores if name.startswith("best"))
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
    add("--agent", default="ehvi-envelope-ddpg")
    add("--limit", type=pair, action="append", metavar="COST=SHARE")
    add("--evaluations", type=int, default=200)
    add("--recipe", default="short")
    add("--seed", type=int, default=0)
    add("--collect", type=Path, metavar="FILE.csv")
    options = parser.parse_args()
    if options.collect:
        collect(options.out, options.collect)
    elif options.limit:
        cell(options)
    else:
        parser.error("give a --limit, such as flops=0.2, or --collect")


if __name__ == "__main__":
    main()
