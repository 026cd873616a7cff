"""Read ImageNet (Russakovsky et al. 2015) from the data home: ``imagenet/{train,val}/CLASS/IMAGE``.

It cannot be downloaded without an account. Of the training images 2,560 serve for calibration and
3,000 for search (as in AMC, He et al. 2018), of the validation images 5,000 for tests; in each
case those whose class and file name have the smallest SHA-256.
"""

from prune_gym._utils.paths import data_home
from prune_gym.datasets import image_folder
from prune_gym.datasets.classification import Data
from prune_gym.errors import MissingFileError, UserError

FOLDER = "imagenet"
CLASSES = 1000
SIZE = 224
TRAIN, SEARCH, TEST = 2_560, 3_000, 5_000


def load() -> Data:
    """Return ImageNet's images at 224x224 pixels, 1.5 GiB in memory.

    Raises:
        MissingFileError: it is not in the data home.
        UserError: there are not 1,000 classes, too few images, or a file is no image.
    """
    root = data_home() / FOLDER
    if not all((root / part).is_dir() for part in ("train", "val")):
        raise MissingFileError(
            f"ImageNet is not in {root}: expected train/CLASS/IMAGE and val/CLASS/IMAGE there; "
            "get it from https://image-net.org, or set PRUNE_GYM_HOME to the folder that holds "
            f"{FOLDER}/"
        )
    (classes, train), (others, val) = (
        image_folder.find_images(root / part) for part in ("train", "val")
    )
    if len(classes) != CLASSES or classes != others:
        raise UserError(
            f"{root}: expected the same {CLASSES:,} class folders in train/ and val/, got "
            f"{len(classes):,} and {len(others):,}; a network of ImageNet has one output per class "
            "in the order of all folders, so a part of the classes (such as Imagenette) cannot be "
            "scored with it: read it with prune_gym.datasets.image_folder.load, and train a "
            "network on it"
        )
    if len(train) <= SEARCH:
        raise UserError(
            f"{root}: expected more than {SEARCH:,} images in train/ ({SEARCH:,} to search on and "
            f"up to {TRAIN:,} to calibrate with), got {len(train):,}"
        )
    files = {"search": train[:SEARCH], "train": train[SEARCH : SEARCH + TRAIN], "test": val[:TEST]}
    return Data(
        FOLDER,
        CLASSES,
        **image_folder.read_splits(files, SIZE),
        mean=image_folder.MEAN,
        std=image_folder.STD,
        flip=True,
    )
