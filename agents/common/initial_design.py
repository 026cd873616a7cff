"""The strategies that every learning or evolving agent starts from: the same for all of them.

Half of them are a sweep over uniform ratios, half are random: one overall ratio with noise around
it, because independent random actions all give strategies of about the same size.
"""

import numpy as np

SHARE = 10  # one in so many evaluations is initial design
NOISE = 0.3  # standard deviation around a random ratio, in units of actions in [-1, 1]


def initial_design_length(episodes: int) -> int:
    """Return how many of a search's episodes are initial design: a tenth, at least one."""
    return max(episodes // SHARE, 1)


def initial_design(episodes: int, decisions: int, seed: int) -> np.ndarray:
    """Return the initial design of a search as actions in [-1, 1].

    Args:
        episodes: of the whole search.
        decisions: of one episode.
        seed: of the random half.

    Returns:
        ``float32 (initial_design_length(episodes), decisions)``; even rows are uniform, odd
        ones random.
    """
    count = initial_design_length(episodes)
    actions = np.empty((count, decisions), dtype=np.float32)
    actions[0::2] = van_der_corput((count + 1) // 2)[:, None] * 2 - 1
    rng = np.random.default_rng(seed)
    for row in range(1, count, 2):
        actions[row] = random_ratio(rng, decisions)
    return actions


def random_ratio(rng: np.random.Generator, decisions: int) -> np.ndarray:
    """Return actions around one random overall ratio, ``float32 (decisions,)`` in [-1, 1]."""
    actions = rng.uniform(-1.0, 1.0) + rng.normal(0.0, NOISE, size=decisions)
    return np.clip(actions, -1.0, 1.0).astype(np.float32)


def van_der_corput(count: int) -> np.ndarray:
    """Return ``count`` evenly spaced numbers from 0 to 1 in van der Corput's order.

    Every half of the rest in turn, so that a short run covers the range too.
    """
    bits = max(count - 1, 1).bit_length()
    reversed_bits = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(2**bits)]
    order = [i for i in reversed_bits if i < count]
    return np.linspace(0.0, 1.0, count)[order]
