import json

import numpy as np
import pytest

from thesis_tf.gsn import Inpainting

TRUTH = np.array([[1.0, 2.0], [3.0, 4.0]])
MASK = np.array([True, False])
# Unknown values differ by 2 and by 4 between the runs.
FOUND = Inpainting(TRUTH, MASK, np.array([[[1.0, 0.0], [3.0, 0.0]], [[1.0, 2.0], [3.0, 4.0]]]))


def test_in_short():
    assert FOUND.table() == (
        "property                         value\n"
        "examples                             2\n"
        "runs                                 2\n"
        "known is bit identical             yes\n"
        "standard deviation between runs    1.5"
    )
    assert repr(FOUND) == (
        "Inpainting(examples=2, runs=2, known_is_bit_identical=yes,"
        " standard_deviation_between_runs=1.5)"
    )
    assert json.loads(json.dumps(FOUND.summary())) == {
        "examples": 2,
        "runs": 2,
        "known_is_bit_identical": True,
        "standard_deviation_between_runs": 1.5,
    }


def test_known_values_that_differ_and_no_unknown_ones():
    moved = Inpainting(TRUTH, MASK, FOUND.completions + 1e-9)
    assert not moved.known_is_bit_identical
    everything = Inpainting(TRUTH, np.ones((2, 2), bool), np.stack([TRUTH] * 2))
    assert everything.known_is_bit_identical
    assert everything.standard_deviation_between_runs == 0


def test_saved(tmp_path):
    FOUND.save(tmp_path / "a.npz")
    again = Inpainting.load(tmp_path / "a.npz")
    for name, value in vars(FOUND).items():
        np.testing.assert_array_equal(getattr(again, name), value)


@pytest.mark.parametrize(
    ("mask", "completions", "match"),
    [
        (MASK, TRUTH, r"`completions` must be of shape \(runs, 2, 2\)"),
        (MASK, np.zeros((3, 2, 3)), r"`completions`.*\(3, 2, 3\)"),
        (np.ones(2), FOUND.completions, "`mask` must be booleans.*float64"),
        (np.ones((1, 2), bool), FOUND.completions, r"`mask`.*\(2,\) or \(2, 2\)"),
    ],
)
def test_bad_shapes(mask, completions, match):
    with pytest.raises(ValueError, match=match):
        Inpainting(TRUTH, mask, completions)
