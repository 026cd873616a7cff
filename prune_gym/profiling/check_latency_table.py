"""Check a latency table: compare its predictions with the times of whole networks."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr
from torch import nn

from prune_gym._utils.progress import OnProgress, ignore_progress, reported
from prune_gym.costs.latency import Latency, LatencyTable
from prune_gym.errors import UserError
from prune_gym.graph.trace import trace
from prune_gym.profiling.design_of_experiments import random_strategies
from prune_gym.profiling.profile_network import drift_corrected
from prune_gym.profiling.runtimes import Setting, share_threads
from prune_gym.profiling.timing import loader, timed

SETTING = ("runtime", "threads", "batch", "device")  # how a table was measured
MAX_DRIFT = 0.2  # of the time of the original; on a quiet machine it was at most 0.15


@dataclass(frozen=True)
class Check:
    """Predicted and measured ms of random strategies, float64 (n,), and of the original."""

    predicted: np.ndarray
    measured: np.ndarray
    predicted_original: float
    measured_original: float

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

    @property
    def warning(self) -> str:
        """A warning where the original network ran much slower or faster than predicted, or ""."""
        drift = self.measured_original / self.predicted_original - 1
        if abs(drift) <= MAX_DRIFT:
            return ""
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
            f"correlation {self.rank_correlation:.4f}; original predicted "
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
    input_shape: tuple[int, int, int],
    *,
    count: int = 30,
    seed: int = 0,
    on_progress: OnProgress = ignore_progress,
) -> Check:
    """Time ``count`` random strategies end to end, in the table's runtime and setting.

    Raises:
        UserError: the table lacks a layer, does not say how it was measured, or was made with a
            runtime that is not known here.
        MissingExtraError: the runtime is not installed.
    """
    require_setting(latency)
    about = latency.about
    runtime, setting = about["runtime"], Setting(about["batch"], input_shape, about["threads"])
    table = trace(network, input_shape)
    cost = Latency(table, latency)
    load = loader(network, table, runtime, setting)
    share_threads(runtime, setting.threads)
    strategies = random_strategies(table, count, seed)
    pairs = list(reported(timed(load, table, strategies, nodes=False), count, on_progress))
    return Check(
        cost(table.configuration(np.stack(strategies))),
        np.array([each.milliseconds for each in drift_corrected(pairs)]),
        float(cost(table.configuration())[0]),
        min(original.milliseconds for _, original in pairs),
    )
