"""Describe a detection data set: three splits of images with boxes."""

from dataclasses import dataclass

import numpy as np

from prune_gym.datasets.checks import (
    check_classes,
    check_images,
    check_labels,
    check_normalization,
    check_shapes,
)
from prune_gym.datasets.classification import SPLITS
from prune_gym.errors import UserError


@dataclass(frozen=True)
class DetectionSplit:
    """Images and the objects in them; all arrays are read-only.

    Attributes:
        images: ``uint8 (N, C, H, W)``.
        boxes: left, top, right and bottom of every object in pixels, ``float32 (M, 4)``.
        classes: of every object, ``int64 (M,)``.
        image_ids: the index of the image that every object is in, ascending, ``int64 (M,)``.
    """

    images: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    image_ids: np.ndarray

    def __post_init__(self) -> None:
        """Check the arrays and make them read-only, as every environment shares them.

        Raises:
            UserError: an array has a wrong type or shape, or there is no image.
        """
        check_images(self.images)
        if not isinstance(self.boxes, np.ndarray):
            raise UserError(f"boxes: expected a NumPy array, got {type(self.boxes).__name__}")
        objects = len(self.boxes)
        if self.boxes.shape != (objects, 4) or not np.isfinite(self.boxes).all():
            raise UserError(
                "boxes: expected finite numbers (M, 4): left, top, right and bottom in pixels; got "
                f"{self.boxes.dtype} {self.boxes.shape}"
            )
        for name in ("classes", "image_ids"):
            object.__setattr__(self, name, check_labels(getattr(self, name), objects))
        if objects and (np.diff(self.image_ids, append=len(self.images) - 1) < 0).any():
            raise UserError(
                f"image_ids must ascend and name one of the {len(self.images)} images; got "
                f"{self.image_ids.min()} to {self.image_ids.max()}"
            )
        for array in (self.images, self.boxes, self.classes, self.image_ids):
            array.setflags(write=False)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def select(self, chosen: np.ndarray) -> "DetectionSplit":
        """Return the images ``chosen`` (indices, each at most once), in that order."""
        place = np.full(len(self), -1)
        place[chosen] = np.arange(len(chosen))
        image_ids = place[self.image_ids]
        order = np.argsort(image_ids, kind="stable")
        order = order[image_ids[order] >= 0]
        return DetectionSplit(
            self.images[chosen], self.boxes[order], self.classes[order], image_ids[order]
        )


@dataclass(frozen=True)
class DetectionData:
    """A detection data set; pixels go into networks scaled to [0, 1], as Darknet does.

    Attributes:
        name: the name it is loaded by.
        class_names: of classes ``0, 1, ...``.
        train: what networks are trained on and repair is calibrated with.
        search: held out of the training images; rewards see only this split.
        test: for reports, never for a search.
        flip: whether a mirrored image still shows the same classes.
        permute_colors: whether an image in other colors still shows the same classes.
        mean: per channel, of pixels scaled to [0, 1].
        std: per channel, likewise.
        chance: mean average precision of a guess.
    """

    name: str
    class_names: tuple[str, ...]
    train: DetectionSplit
    search: DetectionSplit
    test: DetectionSplit
    flip: bool
    permute_colors: bool = False
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    chance: float = 0.0

    def __post_init__(self) -> None:
        """Check that splits, classes and normalization fit together.

        Raises:
            UserError: a class has no name, a shape does not fit, or the search or the test split
                holds no object, so that it has no mean average precision.
        """
        splits = {name: getattr(self, name) for name in SPLITS}
        check_shapes([split.images for split in splits.values()])
        for name, split in splits.items():
            check_classes(split.classes, self.num_classes, name)
            if name != "train" and not len(split.classes):
                raise UserError(
                    f"the {name} split of {self.name} has {len(split)} images and no object in "
                    "them, so detectors cannot be scored on it; label objects in more images"
                )
        mean, std = check_normalization(self.mean, self.std, self.train.images)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def metric_name(self) -> str:
        """What the accuracy objective is called for people."""
        return "mAP@0.5"
