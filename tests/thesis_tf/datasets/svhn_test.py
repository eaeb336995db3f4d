import numpy as np
import pytest
import scipy.io

from thesis_tf import datasets


def images(n, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


def save(path, x, y):
    """Writes a file in the format of SVHN's authors: X (32, 32, 3, n), y (n, 1)."""
    scipy.io.savemat(path, {"X": x.transpose(1, 2, 3, 0), "y": y.reshape(-1, 1)})


def test_the_two_files_of_the_authors(tmp_path):
    y = np.arange(50, dtype=np.uint8) % 10 + 1
    save(tmp_path / "train_32x32.mat", images(50, 0), y)
    save(tmp_path / "test_32x32.mat", images(20, 1), y[:20])
    splits = datasets.load("svhn", data_dir=tmp_path)

    assert [len(splits.train), len(splits.validation), len(splits.test)] == [45, 5, 20]
    assert splits.class_names == tuple("0123456789")
    np.testing.assert_array_equal(splits.test.x, images(20, 1))
    # Label 10 is the digit 0; other labels are their digit.
    assert splits.test.y.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 2


def test_one_file_alone(tmp_path):
    save(tmp_path / "train_32x32.mat", images(4, 0), np.arange(1, 5))

    with pytest.raises(FileNotFoundError, match=r"both files.*only train_32x32\.mat.*format 2"):
        datasets.load("svhn", data_dir=tmp_path)


@pytest.mark.parametrize("data_dir", [True, False])
def test_no_files_and_no_tensorflow_datasets(tmp_path, monkeypatch, data_dir):
    # Python uses None for a module that can't be imported.
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_datasets", None)

    with pytest.raises(FileNotFoundError, match=r"Put train_32x32\.mat and test_32x32\.mat of SV"):
        datasets.load("svhn", data_dir=tmp_path if data_dir else None)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((4, 3, 32, 32), np.uint8), np.arange(1, 5), r"X in .*uint8 of shape \(32, 32"),
        (np.zeros((4, 32, 32, 3)), np.arange(1, 5), r"X in .*Received: float64"),
        (np.zeros((4, 32, 32, 3), np.uint8), np.arange(4), r"y in .*integers from 1 to 10"),
        (np.zeros((4, 32, 32, 3), np.uint8), np.arange(8, 12), r"y in .*integers from 1 to 10"),
        (np.zeros((4, 32, 32, 3), np.uint8), np.ones(3, int), r"`y_train` of svhn.*4 examples"),
    ],
)
def test_files_of_something_else(tmp_path, x, y, message):
    for split in ("train", "test"):
        save(tmp_path / f"{split}_32x32.mat", x, y)

    with pytest.raises(ValueError, match=message):
        datasets.load("svhn", data_dir=tmp_path)


def test_a_file_without_the_arrays(tmp_path):
    for split in ("train", "test"):
        scipy.io.savemat(tmp_path / f"{split}_32x32.mat", {"X": np.zeros(3)})

    with pytest.raises(ValueError, match=r"a file with X and y\. Received: no y\."):
        datasets.load("svhn", data_dir=tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a MATLAB file at all, but a page of HTML" * 9])
def test_a_file_that_is_no_matlab_file(tmp_path, content):
    for split in ("train", "test"):
        (tmp_path / f"{split}_32x32.mat").write_bytes(content)

    with pytest.raises(ValueError, match=r"train_32x32\.mat cannot be read as a MATLAB file"):
        datasets.load("svhn", data_dir=tmp_path)


def test_a_file_that_was_cut_short(tmp_path):
    for split in ("train", "test"):
        path = tmp_path / f"{split}_32x32.mat"
        save(path, images(4, 0), np.arange(1, 5))
        path.write_bytes(path.read_bytes()[:3000])

    with pytest.raises(ValueError, match=r"train_32x32\.mat cannot be read as a MATLAB file"):
        datasets.load("svhn", data_dir=tmp_path)


@pytest.mark.slow
def test_data_that_tensorflow_datasets_has_prepared(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets", reason="the extra `tfds` is not installed")
    published = tfds.builder("svhn_cropped", data_dir=tmp_path)

    # A second builder with the same name, which writes the files that the first one finds.
    class SvhnCropped(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = published.version

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=published.info.features,
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples() for split in ("train", "test", "extra")}

        def _generate_examples(self):
            for i, image in enumerate(images(20, 0)):
                yield i, {"id": str(i), "image": image, "label": i % 10}

    SvhnCropped(data_dir=tmp_path).download_and_prepare()
    splits = datasets.load("svhn", data_dir=tmp_path)

    assert [len(splits.train), len(splits.validation), len(splits.test)] == [18, 2, 20]
    labels = {image.tobytes(): i % 10 for i, image in enumerate(images(20, 0))}
    assert splits.test.y.tolist() == [labels[image.tobytes()] for image in splits.test.x]


def test_a_download_by_tensorflow_datasets_that_fails(tmp_path):
    pytest.importorskip("tensorflow_datasets", reason="the extra `tfds` is not installed")
    # A file in the place of the download folder, so that it fails before any network access.
    (tmp_path / "downloads").write_text("a file")

    with pytest.raises(FileNotFoundError, match=r"svhn_cropped could not be .*Put train_32x32\.m"):
        datasets.load("svhn", data_dir=tmp_path)
