import json

import numpy as np
import pytest

from thesis_tf import datasets
from thesis_tf.datasets import values

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 6, 5, 3)).astype(np.uint8)
IMAGES[0, 0, 0] = 0, 255, 255
UNIT = IMAGES / 255
DARK = IMAGES // 3  # up to 85
LABELS = np.arange(60) % 3
ASK = "ask"
# (name, examples, black and white or None for no pixels or ASK where it can't be told)
FORMS = [
    ("uint8", IMAGES, (0, 255)),
    ("uint8 that is dark", DARK, ASK),
    ("uint8 of zeros and ones", IMAGES // 128, (0, 1)),
    ("uint8 in [0, 16]", IMAGES // 16, ASK),
    ("bool", IMAGES > 127, (0, 1)),
    ("uint16", IMAGES.astype(np.uint16) * 257, (0, 65535)),
    ("uint16 in [0, 255]", IMAGES.astype(np.uint16), (0, 255)),
    ("uint16 of 12 bits", IMAGES.astype(np.uint16) * 16, ASK),
    ("int64", IMAGES.astype(np.int64), (0, 255)),
    ("int64 in [0, 16]", IMAGES.astype(np.int64) // 16, ASK),
    ("int64 of signs", IMAGES.astype(np.int64) // 128 * 2 - 1, None),
    ("int16 centered", IMAGES.astype(np.int16) - 128, ASK),
    ("big-endian uint16", (IMAGES.astype(np.uint16) * 257).astype(">u2"), (0, 65535)),
    ("float32 in [0, 1]", UNIT.astype(np.float32), (0, 1)),
    ("float64 in [0, 1]", UNIT, (0, 1)),
    ("float16 in [0, 1]", UNIT.astype(np.float16), (0, 1)),
    ("dark float in [0, 1]", UNIT / 100, (0, 1)),
    ("float in [0, 255]", IMAGES.astype(np.float32), (0, 255)),
    ("float in [0, 16]", UNIT * 16, ASK),
    ("float in [0, 100]", UNIT * 100, ASK),
    ("float in [0, 65535]", UNIT * 65535, ASK),
    ("float in [-1, 1]", UNIT * 2 - 1, None),
    ("standardized", (UNIT - UNIT.mean()) / UNIT.std(), None),
    ("float in [0, 1] with undershoot", UNIT - 0.01, None),
    ("float in [0, 255] with undershoot", IMAGES - 2.0, ASK),
    ("Fortran order", np.asfortranarray(IMAGES), (0, 255)),
    ("every second row", np.repeat(IMAGES, 2, axis=1)[:, ::2], (0, 255)),
]
NAMED = pytest.mark.parametrize(("x", "pixels"), [f[1:] for f in FORMS], ids=[f[0] for f in FORMS])


def save(path, x, **more):
    np.savez(path, x_train=x, y_train=LABELS, **more)
    return path


@NAMED
def test_what_black_and_white_are(tmp_path, x, pixels):
    found = datasets.load(save(tmp_path / "a.npz", x)).values
    assert (found.low, found.high, found.dtype) == (x.min(), x.max(), x.dtype.name)
    if pixels is ASK:
        assert not found.told_apart
        with pytest.raises(ValueError, match=r"`value_range` must be given for .*it can't be told"):
            found.known_pixels()
    else:
        assert found.known_pixels() == pixels


@NAMED
def test_examples_without_labels_agree_with_those_with_labels(tmp_path, x, pixels):
    path = save(tmp_path / "a.npz", x)
    if pixels is ASK and x.dtype == np.uint8:
        with pytest.raises(ValueError, match="`value_range` must be given for a"):
            datasets.load_inputs(path)
        return
    labeled, found = datasets.load(path), datasets.load_inputs(path)
    # Integers that are pixels are scaled, other values aren't.
    scale = pixels[1] if x.dtype.kind in "biu" and pixels not in (None, ASK) else 1
    np.testing.assert_allclose(found.test.x, labeled.test.x / scale, rtol=1e-6)
    assert found.values.in_unit == (
        scale > 1 or x.dtype.kind == "b" or (pixels == (0, 1) and x.dtype.kind in "iu")
    )


def test_what_a_caller_tells_is_so(tmp_path):
    path = save(tmp_path / "a.npz", IMAGES // 16)
    told = datasets.load(path, value_range=(0, 15))
    assert told.values.pixels == (0, 15)
    np.testing.assert_array_equal(told.train.x, (IMAGES // 16)[told.train.rows])
    scaled = datasets.load_inputs(path, value_range=(0, 15))
    np.testing.assert_allclose(scaled.train.x, told.train.x / 15, rtol=1e-6)
    assert datasets.load(path, value_range="none").values.known_pixels() is None
    same = datasets.load_inputs(path, value_range="none")
    np.testing.assert_array_equal(same.train.x, told.train.x)

    signed = save(tmp_path / "b.npz", UNIT * 2 - 1)
    found = datasets.load_inputs(signed, value_range=(-1, 1)).train
    np.testing.assert_allclose(found.x, UNIT[found.rows], atol=1e-12)


@pytest.mark.parametrize(
    ("value_range", "message"),
    [
        ((0, 10), r"`value_range` must be around all values of a, 0 to 15 \(uint8\).*: 0,10\."),
        ((1, 255), "around all values"),
        ((16, 0), "two finite numbers, black < white"),
        ((0, np.inf), "two finite numbers"),
        ((0, 1, 2), r'must be \(black, white\), "none" or None'),
        ("some", r'must be \(black, white\), "none" or None'),
        (255, r'must be \(black, white\), "none" or None'),
    ],
)
def test_what_a_caller_cannot_tell(tmp_path, value_range, message):
    path = save(tmp_path / "a.npz", IMAGES // 16)
    for load in (datasets.load, datasets.load_inputs):
        with pytest.raises((ValueError, TypeError), match=message):
            load(path, value_range=value_range)


def test_all_splits_count(tmp_path):
    # The largest value is only in the test examples.
    path = save(tmp_path / "a.npz", UNIT * 100, x_test=UNIT[:9] * 255, y_test=LABELS[:9])
    assert datasets.load(path).values.pixels == (0, 255)


def test_bundled_digits_are_scaled_as_ever():
    found = datasets.load_inputs("mnist_mini").test.x
    stored = datasets.load("mnist_mini").test.x
    np.testing.assert_array_equal(found, stored.astype(np.float32) / 255)
    assert found.dtype == np.float32


def test_large_integers_stay_exact(tmp_path):
    x = np.arange(60)[:, np.newaxis] + 2**30
    np.savez(tmp_path / "a.npz", x=x)
    found = datasets.load_inputs(tmp_path / "a.npz").train
    np.testing.assert_array_equal(found.x, x[found.rows])


def test_a_line_says_the_range(tmp_path):
    said = datasets.load(save(tmp_path / "a.npz", UNIT)).describe()
    assert "values 0 to 1 (float64), pixels from 0 (black) to 1 (white)" in said
    said = datasets.load_inputs(save(tmp_path / "a.npz", IMAGES)).describe()
    assert "0 to 255 (uint8), pixels from 0 (black) to 255 (white), scaled to [0, 1]" in said


def test_a_line_says_what_may_be_a_mistake(tmp_path):
    # Classes that are numbered from 1, and test examples that are training examples.
    y = LABELS + 1
    np.savez(tmp_path / "a.npz", x_train=UNIT, y_train=y, x_test=UNIT[:7], y_test=y[:7])
    splits = datasets.load(tmp_path / "a.npz")
    held_out = len(set(splits.validation.rows) & set(range(7)))
    assert splits.repeated == {"validation": 0, "test": 7 - held_out}
    said = splits.describe()
    assert "4 classes of 0 to 18 training examples; no training examples of 0;" in said
    assert f"{7 - held_out} test examples are training examples, too" in said
    found = splits.summary()
    assert found["classes"]["train"] == [0, 18, 18, 18]
    assert found["examples"] == {"train": 54, "validation": 6, "test": 7}
    assert json.loads(json.dumps(found)) == {**found, "pixels": list(found["pixels"])}
    assert datasets.load("mnist_mini").describe() == (
        "mnist_mini: 8,100 train, 900 validation (of the source's train), 1,000 test of shape"
        " (28, 28, 1); 10 classes of 705 to 929 training examples; values 0 to 255 (uint8), pixels"
        " from 0 (black) to 255 (white)."
    )


def test_numbers_beyond_a_range_have_no_range():
    assert values.find("a", [np.array([0.0, 300.0])]).told_apart is False
    assert str(values.find("a", [np.array([0.0, 300.0])])) == "0 to 300 (float64)"


@pytest.mark.parametrize(("first", "second"), [(255, 1), (255, 0.7), (65535, 255), (1, 255)])
@pytest.mark.parametrize("load", [datasets.load, datasets.load_inputs])
def test_splits_of_different_ranges_are_refused(tmp_path, load, first, second):
    dtype = "uint16" if first > 255 else "float32"
    parts = {}
    for split, high in (("train", first), ("validation", first), ("test", second)):
        x = np.random.default_rng(0).uniform(0, high, (20, 4, 4)).astype(dtype)
        x[0, 0, 0] = high
        parts |= {f"x_{split}": x, f"y_{split}": np.arange(20) % 2}
    path = tmp_path / "a.npz"
    np.savez(path, **parts)
    with pytest.raises(ValueError, match="splits seem to have different ranges"):
        load(path)
    told = max(first, second)
    assert load(path, value_range=(0, told)).values.pixels == (0, told)
