"""What a data set is: three splits of images and how they are normalized."""

from dataclasses import dataclass

import numpy as np

from prune_gym.errors import UserError


@dataclass(frozen=True)
class Split:
    """Images ``uint8 (N, C, H, W)`` with labels ``int64 (N,)``; both arrays are read-only."""

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        """Check the arrays and make them read-only, as every environment shares them."""
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels):
            raise UserError(
                "a split needs uint8 images (N, C, H, W) and N labels; got "
                f"{images.dtype} {images.shape} and {len(labels)} labels"
            )
        images.setflags(write=False)
        labels.setflags(write=False)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """A classification data set.

    Attributes:
        name: the name it is loaded by.
        num_classes: labels are ``0 .. num_classes - 1``.
        train: what networks are trained on and repair is calibrated with.
        search: held out of the training images; rewards see only this split.
        test: for reports, never for a search.
        mean: per channel, of pixels scaled to [0, 1].
        std: per channel, likewise.
        flip: whether a mirrored image is still of its class.
    """

    name: str
    num_classes: int
    train: Split
    search: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool

    @property
    def chance(self) -> float:
        """Accuracy of a guess; the reference point of the accuracy objective."""
        return 1.0 / self.num_classes

    @property
    def metric_name(self) -> str:
        """What the accuracy objective is called for people."""
        return "accuracy"
