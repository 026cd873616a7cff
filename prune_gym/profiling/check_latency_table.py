"""Check a latency table: compare its predictions with the times of whole networks."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr
from torch import nn

from prune_gym._utils.progress import OnProgress, ignore_progress, reported
from prune_gym.costs.latency import NO_INT8, Latency, LatencyTable
from prune_gym.errors import UserError
from prune_gym.graph.trace import trace
from prune_gym.profiling.design_of_experiments import random_bits, random_strategies
from prune_gym.profiling.profile_network import drift_corrected
from prune_gym.profiling.runtimes import runtime_named
from prune_gym.profiling.session import Setting
from prune_gym.profiling.timing import loader, timed

SETTING = ("runtime", "threads", "batch", "device")  # how a table was measured
MAX_SPREAD = 0.25  # of the time of a network, median over the networks; idle: below 0.1
MAX_DRIFT = 0.2  # of the time of the original; on a quiet machine it was at most 0.15


@dataclass(frozen=True)
class Check:
    """Predicted and measured ms of random strategies and of the original.

    Attributes:
        predicted: float64 (n,).
        measured: float64 (n,).
        predicted_original: of the original network.
        measured_original: likewise.
        spread: median interquartile range of a network's calls, as a share of its time.
    """

    predicted: np.ndarray
    measured: np.ndarray
    predicted_original: float
    measured_original: float
    spread: float = 0.0

    @property
    def errors(self) -> np.ndarray:
        """Predicted / measured - 1, float64 (n,)."""
        return self.predicted / self.measured - 1

    @property
    def relative_errors(self) -> np.ndarray:
        """Errors of the times as shares of the time of the original network, float64 (n,)."""
        return (self.errors + 1) * self.measured_original / self.predicted_original - 1

    @property
    def rank_correlation(self) -> float:
        """Spearman rank correlation of predicted and measured times."""
        return float(spearmanr(self.predicted, self.measured).statistic)

    def within(self, error: float) -> float:
        """Return the share of networks whose error is at most ``error``, such as 0.05."""
        return float(np.mean(np.abs(self.errors) <= error))

    @property
    def warning(self) -> str:
        """A warning that the machine is busy or not that of the table, or "".

        The original network ran much slower or faster than predicted, or calls of one network
        differed much.
        """
        drift = self.measured_original / self.predicted_original - 1
        if abs(drift) <= MAX_DRIFT:
            if self.spread <= MAX_SPREAD:
                return ""
            return (
                f"calls of the same network differed by {self.spread:.0%} (interquartile range): "
                "this machine is busy. Close other programs and check again"
            )
        return (
            f"the original network itself ran {abs(drift):.0%} "
            f"{'slower' if drift > 0 else 'faster'} than the table predicts: this machine is busy, "
            "or is not the one of the table. Close other programs and check again"
        )

    def __str__(self) -> str:
        """Return the summary."""
        absolute, relative = (np.median(np.abs(e)) for e in (self.errors, self.relative_errors))
        return (
            f"median error {absolute:.1%}, of the share of the original {relative:.1%}; rank "
            f"correlation {self.rank_correlation:.4f}; {self.within(0.05):.0%} of the networks "
            f"within 5 %, {self.within(0.1):.0%} within 10 %; original predicted "
            f"{self.predicted_original:.3f} ms, measured {self.measured_original:.3f} ms"
        )


def require_setting(latency: LatencyTable) -> None:
    """Raise ``UserError`` where a table does not say how it was measured."""
    if missing := [name for name in SETTING if name not in latency.about]:
        raise UserError(
            f"the table does not say its {', '.join(missing)}: what it predicts cannot be compared "
            "with this machine"
        )


def check(
    network: nn.Module,
    latency: LatencyTable,
    input_shape: tuple[int, ...],
    *,
    count: int = 30,
    seed: int = 0,
    mixed: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> Check:
    """Time ``count`` random strategies end to end, in the table's runtime and setting.

    With ``mixed`` a random share of the layers of each has 8 bits.

    Raises:
        UserError: the table lacks a layer, or int8 times for ``mixed``; or it does not say how it
            was measured, or was made with a runtime that is not known here.
        MissingExtraError: the runtime is not installed.
    """
    require_setting(latency)
    about = latency.about
    runtime, setting = about["runtime"], Setting(about["batch"], input_shape, about["threads"])
    table = trace(network, input_shape)
    cost = Latency(table, latency)
    if mixed and not cost.depends_on_bits:
        raise UserError(NO_INT8.format(f"of {latency.about['device']}"))
    load = loader(network, table, runtime, setting)
    runtime_named(runtime).share_threads(setting.threads)
    parts = {"weight_bits": random_bits(table, count, seed)} if mixed else {}
    widths, original = np.stack(random_strategies(table, count, seed)), table.configuration()
    strategies = table.configuration(widths, **parts)
    pairs = timed(load, original, strategies, nodes=False)
    measured = list(reported(pairs, count, on_progress))
    return Check(
        cost(strategies),
        np.array([each.milliseconds for each in drift_corrected(measured)]),
        float(cost(original)[0]),
        min(unpruned.milliseconds for _, unpruned in measured),
        float(np.median([each.spread / each.milliseconds for each, _ in measured])),
    )
