"""Whether a residual block is kept or skipped (ABCP)."""

import numpy as np

from prune_gym.errors import UserError
from prune_gym.search_space.decision import Decision
from prune_gym.search_space.kinds.base import DecisionKind, NetworkStatistics
from prune_gym.search_space.kinds.options import SpaceOptions


class Blocks(DecisionKind):
    """One decision per residual block: 0 skips it, 1 keeps it."""

    name = "block"
    field = "blocks"

    def decisions(self, network: NetworkStatistics, options: SpaceOptions) -> list[Decision]:
        """Return one decision per residual block.

        Raises:
            UserError: the network has no residual block that could be skipped.
        """
        table = network.table
        if not table.blocks:
            raise UserError(
                "decide: 'block' needs a network with residual blocks x + branch(x); "
                f"{network.name} has none"
            )
        choices, shares = np.array([0, 1]), network.branch_shares()
        pairs = [*enumerate(zip(table.blocks, shares, strict=True))]
        decisions = []
        # Backwards: of nested blocks that begin with the same layer the outer is decided first.
        for index, (block, share) in reversed(pairs):
            layers = [i for i in table.weighted if table.layers[i].name in block.layers]
            if not options.may_change(table.layers[i].name for i in layers):
                continue
            parent = table.block_around(block.layers, after=index)
            about = (self.name, block.name, 1, choices, choices, (index,), layers[0])
            decisions.append(Decision(*about, np.array([share, 0.0]), parent))
        return decisions
