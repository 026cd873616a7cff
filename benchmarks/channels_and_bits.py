"""How much faster channels and bits searched together are than channels alone, as measured.

    table="--latency intel-xeon-int8 --objectives accuracy,latency --episodes 150"
    prune-gym train --env ChannelPrune-VGG16-CIFAR10-v0 $table --run DIR/channels
    prune-gym train --env ChannelPrune-VGG16-CIFAR10-v0 $table --run DIR/both \
        --set decide='["channels", "weight_bits"]' --set bits='[8, 32]'
    python benchmarks/channels_and_bits.py DIR/channels DIR/both --accuracy 0.91 --accuracy 0.9

For each least accuracy on the search split it takes the quickest strategy of either run by the
latency table. Three ONNX files are made: channels in float32, the same network with all layers in
int8, and channels and bits as they were searched. Accuracy is that of a file on the test split. The
files and that of the original take turns in ONNX Runtime; ratios are medians over the turns, with
quartiles.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from prune_gym.deployment.before_after import onnx_accuracy
from prune_gym.deployment.deployable import Deployable, deployable
from prune_gym.deployment.export import INPUT, export
from prune_gym.envs.replay import environment_of
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.experiments.evaluated_strategy import EvaluatedStrategy
from prune_gym.experiments.results import read_results
from prune_gym.profiling.onnx_session import open_session, share_threads
from prune_gym.profiling.paired_timing import Spread, medians_in_turns
from prune_gym.profiling.session import Setting

FORMS = ("channels, float32", "channels, then all int8", "channels and bits")
HEADER = f"""| least accuracy, search split | network | accuracy, test split | by the table | \
measured | than the original | than {FORMS[0]} |
|---|---|---|---|---|---|---|"""


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("channels", type=Path)
    parser.add_argument("both", type=Path)
    parser.add_argument("--accuracy", type=float, action="append", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--first", type=int, help="take so many evaluations of either run only")
    options = parser.parse_args()
    runs = [read_results(path) for path in (options.channels, options.both)]
    known = runs[0].original["latency_ms"]
    print(HEADER, flush=True)
    for least in options.accuracy:
        channels, both = (quickest(run.records[: options.first], least) for run in runs)
        evaluator, models = files(channels, both)
        setting = Setting(1, evaluator.table.input_shape, options.threads)
        times = in_turns(list(models.values()), setting)
        tabled = (known, channels.metrics["latency_ms"], None, both.metrics["latency_ms"])
        for at, (name, model) in enumerate(models.items()):
            cells = (
                f"{least:.1%}",
                name,
                f"{onnx_accuracy(model, evaluator):.2%}",
                "" if tabled[at] is None else f"{tabled[at]:.3f} ms",
                f"{np.median(times[at]):.3f} ms",
                ratio(times[0], times[at]),
                ratio(times[1], times[at]),
            )
            print(f"| {' | '.join(cells)} |", flush=True)


def quickest(records: list[EvaluatedStrategy], least: float) -> EvaluatedStrategy:
    """Return the strategy of the least latency among those that are accurate enough."""
    good = [each for each in records if each.metrics["accuracy"] >= least]
    return min(good, key=lambda each: each.metrics["latency_ms"])


def files(
    channels: EvaluatedStrategy, both: EvaluatedStrategy
) -> tuple[Evaluator, dict[str, bytes]]:
    """Return the task, and the ONNX models of the original and of the three forms."""
    narrow, mixed = (environment_of(each.strategy).problem for each in (channels, both))
    data = narrow.evaluator.data
    network = deployable(narrow.apply(channels.strategy), data)
    made: dict[str, tuple[Deployable, bool]] = {
        "original": (deployable(narrow.evaluator.network, data), False),
        FORMS[0]: (network, False),
        FORMS[1]: (network, True),
        FORMS[2]: (deployable(mixed.apply(both.strategy), data), False),
    }
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "model.onnx")
        models = {}
        for name, (each, int8) in made.items():
            models[name] = export(each, "onnx", int8, out).file.read_bytes()
    return narrow.evaluator, models


def in_turns(models: list[bytes], setting: Setting) -> np.ndarray:
    """Return the median ms of a call of every model in every turn, float64 (models, turns)."""
    share_threads(setting.threads)
    feed = {INPUT: setting.images()}
    calls = [partial(open_session(model, setting.threads).run, None, feed) for model in models]
    return medians_in_turns(calls).T


def ratio(before: np.ndarray, after: np.ndarray) -> str:
    """Return how many times as fast it is, with quartiles over the turns."""
    spread = Spread.of(before / after)
    return f"{spread.median:.2f}x ({spread.low:.2f} to {spread.high:.2f})"


if __name__ == "__main__":
    main()
