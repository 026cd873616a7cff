"""The order in which strategies are worth an evaluation, before any accuracy is known.

How fast accuracy falls with the energy lost differs from network to network. So several curves are
considered, and the next strategy is the one that adds most to the hypervolume on their average. A
short run covers the front coarsely, and a longer one fills the gaps.
"""

import numpy as np

from prune_gym.agents.common.dominance import exceeds, reachable
from prune_gym.agents.sensitivity.outlook import Outlook

# Accuracy above chance falls as exp(-(energy lost / scale)^2), for several scales. The middle one,
# times the number of decisions, is right within a factor of two for the three networks of digits.
SCALE = 0.16
FACTORS = 2.0 ** np.arange(-2, 3)
SAMPLES = 20_000  # points of the unit box by which hypervolume is estimated
COMPARED = 3_000  # of them, those that some strategy may dominate


def by_expected_hypervolume(
    outlook: Outlook, values: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the ``count`` best strategies, the best first, of values (n, decisions), n >= count.

    Once nothing is left to gain, the order is that of the energy lost.
    """
    values = values[np.argsort(outlook.lost(values), kind="stable")]
    covers = _covers(outlook, values, rng)
    gains, order = covers.sum(axis=1), []
    for _ in range(count):
        best = int(gains.argmax())
        order.append(best)
        covered = np.flatnonzero(covers[best])
        gains -= covers[:, covered].sum(axis=1)
        covers[:, covered] = False
        gains[best] = -1
    return values[order]


def _covers(outlook: Outlook, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return which strategies would dominate which samples: ``bool (n, curves * samples)``."""
    savings, lost = outlook.savings(values), outlook.lost(values)
    scales = SCALE * values.shape[1] * FACTORS
    accuracies = np.exp(-((lost[:, None] / scales) ** 2))  # 1 is the original's and 0 is chance
    samples = rng.random((SAMPLES, savings.shape[1] + 1))
    best = np.column_stack([savings, accuracies.max(axis=1)])
    samples = reachable(samples, best, COMPARED)
    saved = exceeds(savings, samples[:, :-1])
    accurate = samples[:, -1] < accuracies[:, :, None]
    return np.reshape(saved[:, None] & accurate, (len(values), -1))
