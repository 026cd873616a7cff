"""Load data sets by name.

"digits" and "digit-pairs" are built offline, "cifar10" is read or downloaded, "imagenet" is read
from the data home, and ``package.module:function`` names the user's own data.
"""

from collections.abc import Callable
from functools import lru_cache

from prune_gym._utils.plugins import call_named
from prune_gym.datasets.classification import Data, Split
from prune_gym.datasets.detection import DetectionData, DetectionSplit
from prune_gym.datasets.scored import ScoredData, ScoredSplit
from prune_gym.errors import UserError, unknown

__all__ = [
    "AnyData",
    "AnySplit",
    "Data",
    "DetectionData",
    "DetectionSplit",
    "ScoredData",
    "ScoredSplit",
    "Split",
    "load",
]

AnyData = Data | DetectionData | ScoredData
AnySplit = Split | DetectionSplit | ScoredSplit


@lru_cache(maxsize=4)
def load(name: str) -> AnyData:
    """Return a data set by name; the arrays are shared and read-only.

    Raises:
        UserTypeError: the function that is named returns no data of these classes.
        UserError: no such data set or function.
        MissingFileError: the data are neither on disk nor to be downloaded.
    """
    from prune_gym.datasets import cifar10, digit_pairs, digit_scenes, digits, imagenet, yolo_folder

    if ":" in name:
        return call_named(name, (Data, DetectionData, ScoredData), "data")
    loaders: dict[str, Callable[[], AnyData]] = {
        "digits": digits.load,
        "digit-pairs": digit_pairs.load,
        "cifar10": cifar10.load,
        "imagenet": imagenet.load,
        "digit-scenes": digit_scenes.load,
        "coco-yolo": yolo_folder.load_coco,
    }
    if name not in loaders:
        raise UserError(unknown("data set", name, loaders))
    return loaders[name]()
