import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from prune_gym.datasets.from_arrays import as_data
from prune_gym.datasets.stratify import first_of_every_class, hold_out

STRATA = arrays.arrays(np.int64, st.integers(1, 200), elements=st.integers(-1, 12))


@given(STRATA, st.sampled_from([(0.5,), (0.1, 0.1), (0.3, 0.2), (0.02,)]))
def test_every_stratum_gives_its_share(strata, shares):
    parts = hold_out(strata, shares)
    assert sorted(np.concatenate(parts)) == list(range(len(strata)))
    for share, part in zip(shares, parts[1:], strict=True):
        assert part.tolist() == sorted(part)
        # A stratum is at most one off its share, or gives the one that it has to.
        assert len(part) <= share * len(strata) + len(np.unique(strata))
    for value, count in zip(*np.unique(strata, return_counts=True), strict=True):
        given = [int((strata[part] == value).sum()) for part in parts]
        if count > len(shares):
            assert min(given) >= 1
    again = hold_out(strata, shares)
    assert all(np.array_equal(one, other) for one, other in zip(parts, again, strict=True))


def test_equal_classes_are_split_exactly():
    stay, search, test = hold_out(np.arange(200) % 10, (0.1, 0.1))
    for part, count in ((stay, 16), (search, 2), (test, 2)):
        assert np.bincount(part % 10).tolist() == [count] * 10
    assert search.max() < test.min() + 10  # the first ones of every class


@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 9))
def test_fewer_images_are_as_many_of_every_class(classes, each, wanted):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(classes), each))
    chosen = first_of_every_class(labels, classes * wanted)
    assert chosen.tolist() == sorted(set(chosen))
    assert np.bincount(labels[chosen]).tolist() == [min(wanted, each)] * classes


def test_fewer_images_of_many_rare_classes():
    labels = np.random.default_rng(0).permutation(np.r_[np.zeros(100, int), np.arange(1, 101)])
    chosen = labels[first_of_every_class(labels, 50)]
    assert len(chosen) == 50 and 18 <= (chosen == 0).sum() <= 32


def test_every_class_of_arrays_is_in_every_split():
    """A random split of 12 classes, of which one has 3 of 200 images, would miss it."""
    labels = np.r_[np.arange(197) % 11, [11, 11, 11]]
    images = np.zeros((200, 3, 4, 4), np.uint8)
    for seed in range(5):
        data = as_data((images, labels), seed)
        for split in (data.train, data.search, data.test):
            assert set(split.labels) == set(range(12))


def test_classes_that_cannot_be_in_every_split_are_named():
    images, labels = np.zeros((40, 3, 4, 4), np.uint8), np.r_[np.zeros(37, int), [1, 3, 3]]
    with pytest.warns(UserWarning, match="fewer than 3 images .*: 1, 3"):
        as_data((images, labels))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_data((images, np.arange(40) % 4))
