import dataclasses
import zipfile

import keras
import numpy as np
import pytest

from bin.common import contents
from bin.common.flags import option
from thesis_tf import datasets


@dataclasses.dataclass(frozen=True)
class Inner:
    weights: str = option("none", "", is_path=True)


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: tuple[Inner, ...] = ()
    checkpoints: tuple[str, ...] = option((), "", is_path=True)
    labels: str | None = option(None, "", is_path=True)
    other: str = option("a.npz", "")


def test_all_files_that_flags_name_are_hashed(tmp_path):
    a, b, c = (str(tmp_path / name) for name in ("a.h5", "b.h5", "c.h5"))
    for number, path in enumerate((a, b, c)):
        with open(path, "w") as file:
            file.write(str(number))
    config = Outer((Inner("imagenet"), Inner(a)), checkpoints=(b, c))
    found = contents.of_flags(config)
    assert set(found) == {f"--weights={a}", f"--checkpoints={b}", f"--checkpoints={c}"}
    assert len(set(found.values())) == 3
    assert not contents.of_flags(Outer(labels=str(tmp_path)))  # no file
    assert not contents.of_flags(Outer(labels=str(tmp_path / "none.npz")))


def save_npz(path, again=False):
    (np.savez_compressed if again else np.savez)(path, x=np.arange(5))


def save_model(path, again=False):
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]).save(path)


@pytest.mark.parametrize(("name", "save"), [("a.npz", save_npz), ("a.keras", save_model)])
def test_an_archive_is_what_its_members_hold(tmp_path, name, save):
    path = tmp_path / name
    save(path)
    first, raw = contents.of_file(path), path.read_bytes()
    save(path, again=True)  # compressed, or with other addresses in memory
    assert path.read_bytes() != raw
    assert contents.of_file(path) == first
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more", "x")
    assert contents.of_file(path) != first


@pytest.mark.parametrize("name", ["a.h5", "cut.npz"])
def test_every_byte_of_another_file_counts(tmp_path, name):
    path = tmp_path / name
    np.savez(path.with_suffix(".npz"), x=np.arange(1000))
    whole = path.with_suffix(".npz").read_bytes()
    data = whole[:700] if name.startswith("cut") else b"abc" * 10
    path.write_bytes(data)
    first = contents.of_file(path)
    path.write_bytes(data[:-1] + b"!")
    assert contents.of_file(path) != first


def change(splits, what):
    """Returns `Splits` with another value of one kind."""
    x, y = splits.test.x.copy(), splits.test.y.copy()
    test, names = splits.test, splits.class_names
    if what == "a pixel":
        x[3, 0, 0, 0] += 1
        test = dataclasses.replace(test, x=x)
    elif what == "a label":
        y[3] = (y[3] + 1) % 10
        test = dataclasses.replace(test, y=y)
    elif what == "the order":
        test = dataclasses.replace(test, x=x[::-1], y=y[::-1])
    elif what == "one less":
        test = dataclasses.replace(test, x=x[1:], y=y[1:])
    elif what == "the dtype":
        test = dataclasses.replace(test, x=x.astype("float32"))
    elif what == "a name of a class":
        names = ("zero", *names[1:])
    elif what == "the split":
        return dataclasses.replace(splits, test=splits.validation, validation=splits.test)
    return dataclasses.replace(splits, test=test, class_names=names)


@pytest.mark.parametrize(
    "what",
    ["a pixel", "a label", "the order", "one less", "the dtype", "a name of a class", "the split"],
)
def test_data_are_their_examples_labels_and_names(what):
    splits = datasets.load("mnist_mini").take(train=20, validation=10, test=10)
    assert contents.of_splits(change(splits, "nothing")) == contents.of_splits(splits)
    assert contents.of_splits(change(splits, what)) != contents.of_splits(splits)
