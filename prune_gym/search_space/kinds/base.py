"""The base class of a kind of decision, and what a kind is told of the trained network."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

import numpy as np

from prune_gym.graph.layer_table import LayerTable
from prune_gym.search_space.decision import Decision
from prune_gym.search_space.kinds.options import SpaceOptions


class NetworkStatistics(Protocol):
    """What a kind of decision needs to know of a trained network, as NumPy arrays.

    Attributes:
        table: the network's layer table.
        name: the name of the network's class, for messages.
    """

    table: LayerTable
    name: str

    def channel_errors(self, group: int) -> np.ndarray:
        """Return the output energy lost at every width of a group, ``(channels + 1,)``."""
        ...

    def weights(self, layer: int) -> np.ndarray:
        """Return a sample of a layer's weights by output channel, ``float32 (outputs, m)``."""
        ...

    def branch_shares(self) -> np.ndarray:
        """Return the output energy that each block's branch adds, ``(blocks,)``."""
        ...


class DecisionKind(ABC):
    """A kind of decision: which decisions it makes, and what their values set.

    A kind from outside the package is a subclass that is given to `register_kind`; its name
    can then be used in ``decide=(...)``.

    Attributes:
        name: as in ``decide=(...)``.
        field: the array of `Configuration` that it sets. The name of the kind means an
            array of its own in ``Configuration.extra``, which is 1 in columns that no decision
            sets; `apply` changes the candidate's weights.
    """

    name: ClassVar[str]
    field: ClassVar[str]

    @abstractmethod
    def decisions(self, network: NetworkStatistics, options: SpaceOptions) -> list[Decision]:
        """Return the decisions about a network, in any order.

        Layers for which ``options.may_change([name])`` is False have none.

        Raises:
            UserError: the network has no place for this kind.
        """

    def configure(self, parts: dict[str, np.ndarray], columns: np.ndarray, values: np.ndarray):
        """Write the values of n strategies, ``(n, len(columns))``, into the configuration's parts.

        A kind that changes what a layer costs also writes there; one that sets weights to zero
        lowers ``parts["density"]`` of its layers.
        """
        parts[self.field][:, columns] = values

    def apply(self, candidate: Any, table: LayerTable, values: np.ndarray) -> None:
        """Change the weights of a cut candidate, an ``nn.Module``, in place.

        It runs before weights are pruned one by one and before batch-norm is estimated again.

        Args:
            candidate: the cut network.
            table: the original network's layer table.
            values: of this kind's columns, ``(columns,)``.
        """
        raise NotImplementedError(f"kind {self.name!r} sets {self.field!r}: write apply() for it")
