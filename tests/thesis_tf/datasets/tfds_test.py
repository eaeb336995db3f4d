import importlib.util
import sys

import numpy as np
import pytest

from thesis_tf import datasets

needs_tfds = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_datasets") is None,
    reason="tensorflow_datasets is not installed (the extra `tfds`)",
)


def test_without_tensorflow_datasets(monkeypatch):
    # Python uses None for a module that can't be imported.
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)

    with pytest.raises(ImportError, match=r"tfds:mnist needs .*pip install 'thesis_tf\[tfds\]'"):
        datasets.load("tfds:mnist")


@pytest.fixture(scope="module")
def builders():
    """Builders of small data sets; each subclass is registered under its name in snake case."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class Local(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        FEATURES = None
        SUPERVISED = ("image", "label")
        SIZES = {"train": 20, "test": 5}  # noqa: RUF012

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(self.FEATURES()),
                supervised_keys=self.SUPERVISED,
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in self.SIZES}

        def _generate_examples(self, split):
            for i in range(self.SIZES[split]):
                yield (
                    i,
                    self.example(
                        i, {"train": 0, "validation": 100, "test": 200, "extra": 250}[split]
                    ),
                )

    class ThesisShapes(Local):
        FEATURES = staticmethod(
            lambda: {
                "image": tfds.features.Image(shape=(4, 5, 1)),
                "label": tfds.features.ClassLabel(names=["circle", "square", "star"]),
                "note": tfds.features.Text(),
            }
        )

        def example(self, i, base):
            return {
                "image": np.full((4, 5, 1), base + i, np.uint8),
                "label": i % 3,
                "note": "unused",
            }

    class ThesisThreeSplits(ThesisShapes):
        SUPERVISED = None
        SIZES = {"train": 20, "validation": 6, "test": 5}  # noqa: RUF012

    class ThesisHiddenLabels(ThesisShapes):
        SIZES = {"train": 20, "test": 5, "extra": 3}  # noqa: RUF012

        def example(self, i, base):
            found = super().example(i, base)
            return {**found, "label": -1 if base == 200 else found["label"]}

    class ThesisNested(ThesisShapes):
        SUPERVISED = ({"image": "image", "note": "note"}, "label")

    class ThesisManySizes(ThesisShapes):
        FEATURES = staticmethod(
            lambda: {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(num_classes=3),
            }
        )

        def example(self, i, base):
            return {"image": np.full((3 + i, 9, 3), base + i, np.uint8), "label": i % 3}

    class ThesisMeasurements(Local):
        SUPERVISED = ("size", "species")
        FEATURES = staticmethod(
            lambda: {
                "size": tfds.features.Tensor(shape=(2,), dtype=np.float32),
                "species": tfds.features.ClassLabel(names=["a", "b"]),
            }
        )

        def example(self, i, base):
            return {"size": np.array([i, base + i / 8], np.float32), "species": i % 2}

    class ThesisSentences(Local):
        SUPERVISED = ("text", "label")
        FEATURES = staticmethod(
            lambda: {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=2)}
        )

    class ThesisUnlabeled(Local):
        SUPERVISED = None
        FEATURES = staticmethod(lambda: {"image": tfds.features.Image(shape=(4, 5, 1))})

    class ThesisRegression(Local):
        FEATURES = staticmethod(
            lambda: {
                "image": tfds.features.Image(shape=(4, 5, 1)),
                "label": tfds.features.Scalar(dtype=np.float32),
            }
        )

    class ThesisBroken(ThesisShapes):
        def example(self, i, base):
            raise RuntimeError("the server is down")

    return tfds


def levels(split):
    return split.x.reshape(len(split), -1)[:, 0].tolist()


@needs_tfds
def test_supervised_images(builders, tmp_path):
    splits = datasets.load("tfds:thesis_shapes", data_dir=tmp_path)

    assert splits.name == "tfds:thesis_shapes"
    assert splits.class_names == ("circle", "square", "star")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [18, 2, 5]
    assert splits.train.x.shape == (18, 4, 5, 1)
    assert splits.train.x.dtype == np.uint8
    assert sorted(levels(splits.train) + levels(splits.validation)) == list(range(20))
    for part, base in ((splits.train, 0), (splits.validation, 0), (splits.test, 200)):
        assert part.y.tolist() == [(level - base) % 3 for level in levels(part)]
    again = datasets.load("tfds:thesis_shapes:1.0.0", data_dir=tmp_path)
    np.testing.assert_array_equal(splits.train.x, again.train.x)


@needs_tfds
def test_image_and_label_without_supervised_keys(builders, tmp_path):
    splits = datasets.load("tfds:thesis_three_splits", data_dir=tmp_path)

    assert sorted(levels(splits.train)) == list(range(20))
    assert sorted(levels(splits.validation)) == list(range(100, 106))
    assert sorted(levels(splits.test)) == list(range(200, 205))


@needs_tfds
def test_a_split_without_labels_is_for_those_who_need_none(builders, tmp_path):
    splits = datasets.load("tfds:thesis_hidden_labels", data_dir=tmp_path)
    assert [part.source for part in (splits.train, splits.validation, splits.test)] == ["train"] * 3
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [16, 2, 2]
    assert splits.notes == (
        "left out the splits extra",
        "left out test, which has no labels",
    )
    assert splits.values.pixels == (0, 255)  # images of 8 bits, however dark they are
    inputs = datasets.load_inputs("tfds:thesis_hidden_labels", data_dir=tmp_path)
    found = np.sort(inputs.test.x[:, 0, 0, 0]) * 255
    np.testing.assert_allclose(found, range(200, 205), rtol=1e-6)


@needs_tfds
def test_images_of_many_sizes_are_resized(builders, tmp_path):
    with pytest.raises(ValueError, match=r"of one shape.*\(None, None, 3\).*Pass `image_size`"):
        datasets.load("tfds:thesis_many_sizes", data_dir=tmp_path)
    splits = datasets.load("tfds:thesis_many_sizes", data_dir=tmp_path, image_size=(4, 6))

    assert splits.test.x.shape == (5, 4, 6, 3)
    assert splits.test.x.dtype == np.uint8
    assert splits.class_names == ("0", "1", "2")
    assert sorted(levels(splits.test)) == list(range(200, 205))


@needs_tfds
def test_numbers_stay_as_they_are(builders, tmp_path):
    splits = datasets.load("tfds:thesis_measurements", data_dir=tmp_path)

    assert splits.test.x.dtype == np.float32
    assert sorted(splits.test.x.tolist()) == [[i, 200 + i / 8] for i in range(5)]
    assert splits.test.y.tolist() == (splits.test.x[:, 0] % 2).tolist()
    with pytest.raises(
        ValueError, match=r"`image_size` must be None, since `size` of .* is not an"
    ):
        datasets.load("tfds:thesis_measurements", data_dir=tmp_path, image_size=(4, 6))


@needs_tfds
def test_nested_supervised_keys_are_passed_over(builders, tmp_path):
    splits = datasets.load("tfds:thesis_nested", data_dir=tmp_path)

    assert sorted(levels(splits.test)) == list(range(200, 205))


@needs_tfds
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("thesis_sentences", "`text` of tfds:thesis_sentences must be images or numbers"),
        ("thesis_unlabeled", "or with a pair of supervised keys. Received: the features image"),
        ("thesis_regression", "`label` of tfds:thesis_regression must be a ClassLabel"),
        ("thesis_shapes/large", "tensorflow_datasets has no data set 'thesis_shapes/large'"),
        ("thesis_shapes:9.9.9", "tensorflow_datasets has no data set 'thesis_shapes:9.9.9'"),
        ("", "tensorflow_datasets has no data set ''"),
    ],
)
def test_what_is_no_image_classification(builders, tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        datasets.load(f"tfds:{name}", data_dir=tmp_path)


@needs_tfds
def test_an_unknown_name_gets_the_nearest(builders, tmp_path):
    with pytest.raises(ValueError, match=r"Received: 'thesis_shape'.*nearest are: thesis_shapes"):
        datasets.load("tfds:thesis_shape", data_dir=tmp_path)


@needs_tfds
def test_a_data_set_that_cannot_be_prepared(builders, tmp_path):
    with pytest.raises(OSError, match=r"tfds:thesis_broken could not be .*the server is down") as e:
        datasets.load("tfds:thesis_broken", data_dir=tmp_path)

    assert isinstance(e.value.__cause__, RuntimeError)
