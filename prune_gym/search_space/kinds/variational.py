"""The share of a layer's weights that stays, by the information that they carry (two-stage)."""

from prune_gym.search_space.kinds.density import Density


class Variational(Density):
    """One decision per layer, as density; which weights go is learned by information dropout.

    It is the element-wise variational pruning of the two-stage paper (arXiv 1912.02254), see
    `prune_gym.compression.information_dropout`.
    """

    name = "variational"
