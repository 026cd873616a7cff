"""The law of labels, images and normalization, which every way to make data obeys."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from prune_gym.datasets import Data, DetectionData, DetectionSplit, Split
from prune_gym.datasets.from_arrays import as_data
from prune_gym.errors import UserError

CLASSES = 4


def images(count, channels=3):
    return np.zeros((count, channels, 8, 8), np.uint8)


def data_of(labels, **change):
    good = Split(images(4), np.arange(4))
    fields = {
        "name": "own",
        "num_classes": CLASSES,
        **dict.fromkeys(("train", "test"), good),
        "search": Split(images(len(labels)), labels),
        "mean": (0.5,) * 3,
        "std": (0.25,) * 3,
        "flip": False,
    }
    return Data(**(fields | change))


ARRAYS = st.one_of(
    arrays.arrays(
        st.sampled_from([np.int64, np.int8, np.uint8, np.uint64, np.float64, np.bool_, object]),
        arrays.array_shapes(min_dims=1, max_dims=2, max_side=6),
        elements=st.sampled_from([0, 1]),
    ),
    arrays.arrays(np.int64, st.integers(1, 6), elements=st.integers(-2, CLASSES + 1)),
)
LISTS = st.one_of(
    st.lists(st.integers(-2, CLASSES + 1), max_size=6),
    st.lists(st.sampled_from([0.0, 1, True, None, "2", (1, 2)]), max_size=6),
)


def are_lawful(labels):
    try:
        array = np.asarray(labels)
    except ValueError:
        return False
    return array.ndim == 1 and np.issubdtype(array.dtype, np.integer) and array.min() >= 0


@given(ARRAYS | LISTS)
def test_labels_are_one_integer_per_image_below_the_number_of_classes(labels):
    if are_lawful(labels) and max(labels) < CLASSES:
        found = data_of(labels).search.labels
        assert found.dtype == np.int64 and found.tolist() == list(labels)
        assert not found.flags.writeable
    else:
        with pytest.raises(UserError):
            data_of(labels)


@given(ARRAYS)
def test_arrays_for_compress_obey_the_same_law(labels):
    many = np.resize(labels, (40, *labels.shape[1:]))
    if are_lawful(labels):
        data = as_data((images(40), many))
        found = np.concatenate([each.labels for each in (data.train, data.search, data.test)])
        assert sorted(found) == sorted(many) and data.num_classes == max(many) + 1
    else:
        with pytest.raises(UserError):
            as_data((images(40), many))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((3, 1), int), r"\(3,\); got \(3, 1\)"),
        (np.eye(3, 4), r"got \(3, 4\); .*argmax\(1\)"),
        (np.zeros(3), "got float64"),
        ([0, 1, -1], "got -1"),
        ([0, 1, 4], "search: .*got 4"),
        ([], "at least one image"),
        ([[0], [1, 2]], "one integer"),
    ],
)
def test_wrong_labels_are_refused_in_words(labels, message):
    with pytest.raises(UserError, match=message):
        data_of(labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": 0.3}, "mean: .*3"),
        ({"mean": (0.3,)}, "mean: "),
        ({"mean": (np.nan,) * 3}, "mean: "),
        ({"std": ("a",) * 3}, "std: .*number per channel"),
        ({"std": (0.0, 1, 1)}, "std: .*positive"),
        ({"num_classes": 0}, "num_classes: .*got 0"),
        ({"num_classes": 4.0}, "num_classes: .*got 4.0"),
        ({"test": Split(images(2, channels=1), [0, 1])}, "one shape"),
    ],
)
def test_what_does_not_fit_the_images_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        data_of([0, 1], **change)


def test_a_mean_may_be_any_sequence():
    data = data_of([0, 1], mean=np.full(3, 0.5), std=[1, 1, 1])
    assert data.mean == (0.5,) * 3 and data.std == (1.0,) * 3


def detection_split(boxes, classes, image_ids, count=2):
    return DetectionSplit(images(count), np.array(boxes, np.float32), classes, image_ids)


def test_boxes_obey_the_same_law():
    good = detection_split([[0, 0, 4, 4]], [1], [0])
    data = DetectionData("own", ("cat", "dog"), good, good, good, flip=False)
    assert good.classes.dtype == np.int64
    with pytest.raises(UserError, match="labels: .*got float64"):
        detection_split([[0, 0, 4, 4]], np.zeros(1), [0])
    with pytest.raises(UserError, match="boxes: "):
        detection_split([[0, 0, np.nan, 4]], [0], [0])
    with pytest.raises(UserError, match="at least one image"):
        detection_split(np.zeros((0, 4)), [], [], count=0)
    with pytest.raises(UserError, match="train: .*got 1"):
        DetectionData("own", ("cat",), good, good, good, flip=False)
    nothing = detection_split(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, int))
    assert len(dataclasses.replace(data, train=nothing).train) == 2
    with pytest.raises(UserError, match="search .*own .*2 images"):
        dataclasses.replace(data, search=nothing)
