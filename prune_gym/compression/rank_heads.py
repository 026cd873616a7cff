"""The order in which heads of attention are kept: greedily, a head at a time."""

import numpy as np
import torch


def greedy_heads(
    pairs: list[tuple[torch.Tensor, torch.Tensor]], heads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the greedy order of heads and the error curve for pairs (M, G), one per consumer.

    It is the order of `prune_gym.compression.calibration.greedy_order` with a block of the
    Schur complement in the place of a column: a head leaves with all of its channels.

    Shapes: M, G ``(heads * m, heads * m)``, head by head -> order ``int64 (heads,)``, errors
    ``float32 (heads + 1,)`` with errors[0] = 1.
    """
    size = len(pairs[0][1])
    schur = [moment + 1e-6 * moment.diagonal().mean() * torch.eye(size) for _, moment in pairs]
    product = [weights @ s for (weights, _), s in zip(pairs, schur, strict=True)]
    total = sum(float(p.diagonal().sum()) for p in product)
    rows = torch.arange(size).view(heads, -1)
    left, errors = [*range(heads)], [total]
    order: list[int] = []
    while left:
        gains = [
            sum(
                float((_inverse(s, rows[head]) * (s[rows[head]] @ p[:, rows[head]]).T).sum())
                for s, p in zip(schur, product, strict=True)
            )
            for head in left
        ]
        best = int(np.argmax(gains))
        errors.append(max(errors[-1] - gains[best], 0.0))
        order.append(left.pop(best))
        at = rows[order[-1]]
        for (weights, _), s, p in zip(pairs, schur, product, strict=True):
            change = s[:, at] @ _inverse(s, at) @ s[at]
            p -= weights @ change
            s -= change
    errors[-1] = 0.0
    return np.array(order), np.array(errors, dtype=np.float32) / max(total, 1e-12)


def _inverse(schur: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Return the inverse of a head's block, which may be singular."""
    return torch.linalg.pinv(schur[at][:, at], hermitian=True)
