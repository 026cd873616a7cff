"""Hold out images for search and test so that every class is in every split."""

import warnings
from collections.abc import Sequence

import numpy as np

from prune_gym.errors import UserError

LEAST = 30  # images that three splits are made of
SEARCH = TEST = 0.1  # shares of a classification data set
NAMED = 10  # classes in a warning


def hold_out(strata: np.ndarray, shares: Sequence[float]) -> list[np.ndarray]:
    """Return the positions that stay, then those that each share takes, all ascending.

    Every stratum gives each share its part, and at least one position where the stratum has more
    positions than there are shares. The first ones of a stratum go first. Rounding is carried from
    stratum to stratum, the smallest first, so that the shares are right in total.
    """
    taken: list[list[np.ndarray]] = [[] for _ in range(len(shares) + 1)]
    totals, seen = [0] * len(shares), 0
    order = np.argsort(strata, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(strata[order])) + 1)
    for members in sorted(groups, key=len):
        seen += len(members)
        least = int(len(members) > len(shares))
        for index, share in enumerate(shares):
            spared = least * (len(shares) - index)  # one for each later share and one that stays
            count = int(share * seen + 1e-9) - totals[index]
            count = min(max(count, least), len(members) - spared)
            taken[index + 1].append(members[:count])
            members = members[count:]
            totals[index] += count
        taken[0].append(members)
    return [np.sort(np.concatenate(parts)) for parts in taken]


def split_by_class(
    labels: np.ndarray, class_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the positions of the training, search and test images, each ascending.

    Of every class the first images are searched on, the next ones tested on: 10 % each, and at
    least one where the class has three images or more. A warning names the classes with fewer.

    Raises:
        UserError: there are fewer than 30 images.
    """
    if len(labels) < LEAST:
        raise UserError(
            f"expected at least {LEAST} labelled images for the train, search and test splits, got "
            f"{len(labels)}"
        )
    counts = np.bincount(labels, minlength=len(class_names))
    few = [class_names[int(each)] for each in np.flatnonzero((counts > 0) & (counts < 3))]
    if few:
        more = f" and {len(few) - NAMED} more" if len(few) > NAMED else ""
        warnings.warn(
            "classes with fewer than 3 images are not in every split: "
            f"{', '.join(few[:NAMED])}{more}",
            stacklevel=3,
        )
    train, search, test = hold_out(labels, (SEARCH, TEST))
    return train, search, test


def first_of_every_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` positions, ascending: about the same share of every class, the first ones.

    The labels are in random order, so that a class's first position is its random start: of many
    classes of one image, the share is taken of their number.
    """
    order = np.argsort(labels, kind="stable")
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    starts, sizes = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    depth = np.empty(len(labels))
    depth[order] = (np.arange(len(labels)) - starts + order[starts] / len(labels)) / sizes
    return np.sort(np.argsort(depth, kind="stable")[:count])
