import gzip
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from thesis_tf import datasets
from thesis_tf.datasets import class_names, keras_datasets

OPTIMIZED_GRAPHS = True


def save(path, x, y):
    np.savez(path, x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("mnist", (28, 28), class_names.DIGITS),
        ("fashion_mnist", (28, 28), class_names.FASHION_MNIST),
        ("cifar10", (32, 32, 3), class_names.CIFAR10),
        ("cifar100", (32, 32, 3), class_names.CIFAR100),
    ],
)
def test_an_archive_in_the_data_folder_with_labels_as_keras_has_them(
    tmp_path, name, shape, classes
):
    x = np.random.default_rng(0).integers(0, 256, (40, *shape), dtype=np.uint8)
    y = np.arange(40, dtype=np.uint8).reshape(-1, 1) % len(classes)
    save(tmp_path / f"{name}.npz", x, y)
    splits = datasets.load(name, data_dir=tmp_path)

    assert splits.name == name
    assert splits.class_names == classes
    np.testing.assert_array_equal(splits.test.x, x[:10].reshape(10, *shape[:2], -1))
    np.testing.assert_array_equal(splits.test.y, np.arange(10) % len(classes))
    assert [len(splits.train), len(splits.validation)] == [36, 4]


def test_labels_beyond_the_classes_of_that_name(tmp_path):
    save(tmp_path / "cifar10.npz", np.zeros((40, 32, 32, 3), np.uint8), np.arange(40))

    with pytest.raises(ValueError, match=r"`y_train` of cifar10 must be integers in \[0, 10\)"):
        datasets.load("cifar10", data_dir=tmp_path)


OFFLINE = """
import json, sys
from thesis_tf import datasets
fashion = datasets.load("fashion_mnist", seed=1)
report = {
    "sizes": [len(fashion.train), len(fashion.validation), len(fashion.test)],
    "shape": fashion.train.x.shape,
    "test": fashion.test.x[:, 0, 0, 0].tolist(),
    "labels": [fashion.class_names[label] for label in fashion.test.y],
}
try:
    datasets.load("mnist", data_dir=sys.argv[1])
except OSError as error:
    report |= {"error": str(error), "cause": repr(error.__cause__)}
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """The output of a process without network, with Fashion-MNIST but not MNIST in Keras' cache."""
    home = tmp_path_factory.mktemp("keras")
    cache = home / "datasets" / "fashion-mnist"
    cache.mkdir(parents=True)
    for split, n in (("train", 40), ("t10k", 10)):
        pixels = np.repeat(np.arange(n, dtype=np.uint8), 28 * 28)
        for kind, header, content in (
            ("images-idx3", 16, pixels.tobytes()),
            ("labels-idx1", 8, bytes(i % 10 for i in range(n))),
        ):
            with gzip.open(cache / f"{split}-{kind}-ubyte.gz", "wb") as file:
                file.write(bytes(header) + content)
    # Nothing listens at this proxy, so Keras' download fails immediately.
    proxies = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(home)],
        cwd=pathlib.Path(datasets.__file__).parents[2],
        env=os.environ | proxies | {"KERAS_HOME": str(home), "no_proxy": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.strip().split("\n")[-1]) | {"data_dir": home}


@pytest.mark.slow
def test_what_keras_has(offline):
    assert offline["sizes"] == [36, 4, 10]
    assert offline["shape"] == [36, 28, 28, 1]
    assert offline["test"] == list(range(10))
    assert offline["labels"] == list(class_names.FASHION_MNIST)


@pytest.mark.slow
def test_a_download_that_fails_says_what_to_put_where(offline):
    file = offline["data_dir"] / "mnist.npz"

    assert f"x_train, y_train, x_test and y_test at {file}" in offline["error"]
    assert "refused" in offline["cause"]


def test_the_channels_of_cifar_come_last():
    x = np.arange(2 * 3 * 32 * 32).reshape(2, 3, 32, 32)

    for stored in (x, x.transpose(0, 2, 3, 1)):
        last = keras_datasets._channels_last(stored)
        assert last.shape == (2, 32, 32, 3)
        assert last[1, 30, 2, 0] == x[1, 0, 30, 2]


@pytest.mark.assets
@pytest.mark.parametrize(
    ("name", "shape", "sizes", "first"),
    [
        ("mnist", (28, 28, 1), [54_000, 6_000, 10_000], "7 2 1 0 4"),
        ("cifar10", (32, 32, 3), [45_000, 5_000, 10_000], "cat ship ship airplane frog"),
    ],
)
def test_the_real_data(asset, name, shape, sizes, first):
    splits = datasets.load(name, data_dir=asset(f"{name}.npz").parent)

    assert [len(splits.train), len(splits.validation), len(splits.test)] == sizes
    assert splits.train.x.shape[1:] == shape
    assert splits.train.x.dtype == np.uint8
    assert splits.train.x.max() == 255
    # The first test images, as published in many descriptions of these data sets.
    assert [splits.class_names[label] for label in splits.test.y[:5]] == first.split()
