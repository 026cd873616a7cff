"""Whether a residual block is kept or skipped (ABCP)."""

import numpy as np

from prune_gym.errors import UserError
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.graph.residual_blocks import branch_shares
from prune_gym.search_space.decision import Decision
from prune_gym.search_space.options import SpaceOptions

IMAGES = 128  # enough for the energy of a branch


def block_decisions(evaluator: Evaluator, rules: SpaceOptions) -> list[Decision]:
    """Return one decision per residual block: 0 skips it, 1 keeps it.

    Raises:
        UserError: the network has no residual block that could be skipped.
    """
    table = evaluator.table
    if not table.blocks:
        raise UserError(
            "decide: 'block' needs a network with residual blocks x + branch(x); "
            f"{type(evaluator.network).__name__} has none"
        )
    shares = branch_shares(evaluator.network, table.blocks, evaluator.images[:IMAGES])
    options = np.array([0, 1])
    decisions = []
    # Backwards: of blocks in one another that begin with the same layer the outer is decided first.
    for index, (block, share) in reversed([*enumerate(zip(table.blocks, shares, strict=True))]):
        layer = next(i for i in table.weighted if table.layers[i].name in block.layers)
        lost = np.array([share, 0.0])
        inside = table.block_around(block.layers, after=index)
        about = ("block", block.name, 1, options, options, (index,), layer, lost)
        decisions.append(Decision(*about, inside))
    return decisions
