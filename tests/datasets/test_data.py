import hashlib
import os
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from prune_gym import datasets
from prune_gym._utils.paths import data_home
from prune_gym.datasets import cifar10, cifar10_python, digit_pairs, digits
from prune_gym.errors import UserError

EMBEDDED = {"digits": digits, "digit-pairs": digit_pairs}


@pytest.fixture(scope="module", params=EMBEDDED)
def built(request):
    return datasets.load(request.param)


def test_digits_splits(built):
    module = EMBEDDED[built.name]
    splits = {"train": built.train, "search": built.search, "test": built.test}
    digest = hashlib.sha256()
    for name, split in splits.items():
        assert split.images.shape == (module.SIZES[name], 3, 32, 32)
        assert split.images.dtype == np.uint8
        seldom = np.bincount(split.labels, minlength=built.num_classes).min()
        assert seldom > len(split) / built.num_classes / 3
        digest.update(split.images.tobytes())
        digest.update(split.labels.tobytes())
    assert digest.hexdigest() == module.SHA256


@pytest.mark.ci
def test_digits_are_built_the_same_again(built):
    again = EMBEDDED[built.name].build()
    np.testing.assert_array_equal(again["search"][0], built.search.images)
    np.testing.assert_array_equal(again["test"][1], built.test.labels)


def test_no_writers_sample_is_in_two_splits(monkeypatch):
    """What the renderers are given."""
    seen = []

    def watch(originals, *chosen):
        *of_images, clutter, _ = chosen
        seen.append(set(np.concatenate([np.ravel(each) for each in (*of_images, *clutter)])))
        return np.zeros((len(of_images[0]), 3, 32, 32), np.uint8)

    for module, parts in ((digits, [1, 1, 1]), (digit_pairs, [40, 4, 10])):
        seen.clear()
        monkeypatch.setattr(module, "render", watch)
        module.build()
        ends = np.cumsum(parts)
        train, search, test = (
            set().union(*seen[end - count : end]) for end, count in zip(ends, parts, strict=True)
        )
        assert len(seen) == sum(parts)
        assert train.isdisjoint(search) and train.isdisjoint(test) and search.isdisjoint(test)
        assert len(train | search | test) > 0.99 * len(load_digits().images)


def test_arrays_are_read_only(built):
    with pytest.raises(ValueError, match="read-only"):
        built.train.images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        built.test.labels[0] = 0


def test_cifar_search_split_by_its_definition(cifar):
    assert [len(s) for s in (cifar.train, cifar.search, cifar.test)] == [45_000, 5_000, 10_000]
    assert np.bincount(cifar.search.labels).tolist() == [500] * 10
    for label in range(10):
        held_out, rest = (
            [hashlib.sha1(image.tobytes()).digest() for image in s.images[s.labels == label]]
            for s in (cifar.search, cifar.train)
        )
        assert max(held_out) < min(rest)


@pytest.fixture
def shuffled(cifar, tmp_path, monkeypatch):
    """A read-only data home whose training records stand in another order."""
    source, folder = data_home() / cifar10.FOLDER, tmp_path / "home" / cifar10.FOLDER
    folder.mkdir(parents=True)
    records = np.concatenate(
        [np.fromfile(source / name, np.uint8).reshape(-1, 3073) for name in cifar10.TRAIN_FILES]
    )
    records = records[np.random.default_rng(0).permutation(len(records))]
    for name, part in zip(cifar10.TRAIN_FILES, np.split(records, 5), strict=True):
        part.tofile(folder / name)
    (folder / cifar10.TEST_FILE).symlink_to(source / cifar10.TEST_FILE)
    folder.chmod(0o555)
    monkeypatch.setenv("PRUNE_GYM_HOME", str(folder.parent))
    yield folder
    folder.chmod(0o755)


def test_cifar_does_not_depend_on_the_order_of_the_files(cifar, shuffled):
    before = sorted(path.name for path in shuffled.iterdir())
    again = cifar10.load()
    for name in ("train", "search", "test"):
        np.testing.assert_array_equal(getattr(again, name).images, getattr(cifar, name).images)
        np.testing.assert_array_equal(getattr(again, name).labels, getattr(cifar, name).labels)
    assert sorted(path.name for path in shuffled.iterdir()) == before


@pytest.fixture
def cifar_files():
    """The folder that the binary files are in, found before a test changes where home is."""
    return data_home() / cifar10.FOLDER


@pytest.fixture
def batches(tmp_path, monkeypatch):
    """Return a function that writes CIFAR-10's python version into an otherwise empty home."""
    monkeypatch.setenv("PRUNE_GYM_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / cifar10_python.FOLDER
    folder.mkdir()

    def write(name, content):
        (folder / name).write_bytes(content)
        return folder / name

    return write


def as_python(path):
    """Turn a binary file into a pickle as torchvision's archive holds."""
    records = np.fromfile(path, np.uint8).reshape(-1, 3073)
    content = {
        b"batch_label": b"training batch",
        b"labels": records[:, 0].tolist(),
        b"data": np.ascontiguousarray(records[:, 1:]),
        b"filenames": [b"cat.png"],
    }
    return pickle.dumps(content, protocol=4)


def test_torchvisions_files_are_read_to_the_same_splits(cifar, cifar_files, batches):
    for name in (*cifar10_python.TRAIN_FILES, cifar10_python.TEST_FILE):
        batches(name, as_python(cifar_files / f"{name}.bin"))
    again = cifar10.load()
    for name in ("train", "search", "test"):
        np.testing.assert_array_equal(getattr(again, name).images, getattr(cifar, name).images)
        np.testing.assert_array_equal(getattr(again, name).labels, getattr(cifar, name).labels)


class Runs:
    """A pickle of this calls a function when it is read."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@pytest.mark.parametrize(
    "content",
    [
        {b"data": Runs(os.mkdir, "made")},
        {b"data": Runs(eval, "open('made', 'w')")},
        {b"data": Runs(getattr, b"", "join"), b"labels": []},
        Runs(np.memmap, "made", "u1", "w+", 0, (3,)),
        {b"data": np.zeros((10_000, 3_072), object), b"labels": [0] * 10_000},
        {b"data": np.zeros((10_000, 3_071), np.uint8), b"labels": [0] * 10_000},
        {b"data": np.zeros((10_000, 3_072), np.int16), b"labels": [0] * 10_000},
        {b"data": np.zeros((10_000, 3_072), np.uint8), b"labels": [0] * 9_999},
        {b"data": np.zeros((10_000, 3_072), np.uint8), b"labels": [10] * 10_000},
        {b"labels": [0] * 10_000},
        [1, 2],
    ],
    ids=range(11),
)
def test_a_pickle_names_no_code(batches, content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = batches("test_batch", pickle.dumps(content, protocol=4))
    with pytest.raises(UserError, match="test_batch"):
        cifar10_python.read(path)
    assert not (tmp_path / "made").exists()


@given(st.integers(0, 400), st.integers(0, 255), st.integers(0, 500))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_pickle_is_refused(batches, place, value, end):
    content = bytearray(pickle.dumps({b"data": np.arange(9), b"labels": [1, 2]}, protocol=4))
    content[place % len(content)] = value
    with pytest.raises(UserError, match="data_batch_1"):
        cifar10_python.read(batches("data_batch_1", content[:end]))
