import pathlib
import subprocess
import sys

import numpy as np
import pytest

from thesis_tf import datasets

OPTIMIZED_GRAPHS = True


def test_mnist_mini():
    splits = datasets.load("mnist_mini")

    assert splits.name == "mnist_mini"
    assert splits.class_names == tuple("0123456789")
    for part, size in ((splits.train, 8100), (splits.validation, 900), (splits.test, 1000)):
        assert part.x.shape == (size, 28, 28, 1)
        assert part.x.dtype == np.uint8
        assert part.y.shape == (size,)
        assert part.y.dtype == np.int64
    # The number of each digit among the first 9,000 and the first 1,000 published labels.
    y = np.concatenate([splits.train.y, splits.validation.y])
    assert np.bincount(y).tolist() == [891, 1023, 889, 922, 899, 774, 908, 961, 846, 887]
    assert np.bincount(splits.test.y).tolist() == [85, 126, 116, 107, 110, 87, 87, 99, 89, 94]


@pytest.mark.assets
def test_mnist_mini_is_the_beginning_of_mnist(asset):
    with np.load(asset("mnist.npz"), allow_pickle=False) as mnist:
        x_train, y_train = mnist["x_train"][:9000], mnist["y_train"][:9000]
        x_test, y_test = mnist["x_test"][:1000], mnist["y_test"][:1000]
    splits = datasets.load("mnist_mini")

    np.testing.assert_array_equal(splits.test.x[..., 0], x_test)
    np.testing.assert_array_equal(splits.test.y, y_test)
    held_out = {image.tobytes() for image in splits.validation.x}
    assert len(held_out) == 900
    rest = [i for i, image in enumerate(x_train) if image.tobytes() not in held_out]
    np.testing.assert_array_equal(splits.train.x[..., 0], x_train[rest])
    np.testing.assert_array_equal(splits.train.y, y_train[rest])


def test_loading_mnist_mini_imports_no_tensorflow():
    code = (
        "import sys; from thesis_tf import datasets; splits = datasets.load('mnist_mini'); "
        "splits.take(train=5); "
        "heavy = {'tensorflow', 'keras', 'scipy', 'tensorflow_datasets'} & set(sys.modules); "
        "print(len(splits.train), sorted(heavy))"
    )
    root = pathlib.Path(datasets.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )

    assert done.stdout.split("\n")[0] == "8100 []"


def test_the_names_are_listed():
    assert datasets.NAMES == ("mnist_mini", "mnist", "fashion_mnist", "cifar10", "cifar100", "svhn")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("minst", "mnist"),
        ("MNIST", "mnist"),
        ("cifar-10", "cifar10"),
        ("fashion", "fashion_mnist"),
        ("", "mnist_mini"),
    ],
)
def test_an_unknown_name_lists_all_and_the_nearest(name, near):
    with pytest.raises(ValueError, match=r"`name_or_path` must be one of mnist_mini, .*svhn") as e:
        datasets.load(name)

    advice = str(e.value).split(f"Received: {name!r}.")[1]
    assert near in advice


@pytest.mark.parametrize(
    "where", ["nowhere/toy", "nowhere/toy.npz", "toy.npz", pathlib.Path("mnist")]
)
def test_a_path_that_does_not_exist(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(FileNotFoundError, match=rf"exist.*Received: {where}"):
        datasets.load(where)


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "toy.csv"
    path.write_text("1,2\n")

    with pytest.raises(
        ValueError, match=r"a folder or an \.npz archive\. Received: the file .*csv"
    ):
        datasets.load(path)


@pytest.mark.parametrize("what", [None, 3, b"mnist_mini"])
def test_what_is_no_name(what):
    with pytest.raises(TypeError, match="`name_or_path` must be a name or a path"):
        datasets.load(what)


def test_the_other_arguments_are_checked_before_anything_is_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`data_dir` must be an existing folder.*nowhere"):
        datasets.load("cifar10", data_dir=tmp_path / "nowhere")
    with pytest.raises(TypeError, match="`data_dir` must be a path"):
        datasets.load("cifar10", data_dir=3)
    with pytest.raises(TypeError, match=r"`image_size` must be \(height, width\)\. Received: 32"):
        datasets.load("cifar10", image_size=32)
    with pytest.raises(ValueError, match=r"The width in `image_size` must be a positive integer"):
        datasets.load("cifar10", image_size=(32, 0))
    with pytest.raises(ValueError, match="`seed` must be a non-negative integer"):
        datasets.load("cifar10", seed=-1)


def test_stored_images_are_not_resized():
    assert datasets.load("mnist_mini", image_size=(28, 28)).train.x.shape[1:] == (28, 28, 1)
    with pytest.raises(
        ValueError, match=r"`image_size` must be None for mnist_mini, .*\(28, 28, 1\).*\(32, 32\)"
    ):
        datasets.load("mnist_mini", image_size=(32, 32))
