"""Which outputs predict which labels; the checks of labels are in fit_test.py."""

import numpy as np
import pytest

from thesis_tf.probes.features import label_sets

OUTPUTS = ["output/class", "output/aux", "output"]


def test_which_outputs_predict_a_set_of_labels():
    def found(name, among):
        return label_sets.outputs_that_predict(name, OUTPUTS, among=among)

    assert found("class", None) == OUTPUTS
    assert found("class", {"class", "x"}) == ["output/class"]
    assert found("aux", {"aux"}) == ["output/aux"]
    assert found("x", {"class", "x"}) == []


@pytest.mark.parametrize("labels", [[-1, 0, 1, 0], [0, 1, -1, -1]])
def test_negative_labels_are_to_be_left_out(labels):
    rows = {"train": slice(0, 4)}
    with pytest.raises(ValueError, match=r"negative: leave these examples out of `splits`") as e:
        label_sets.checked("class", "`labels`", np.array(labels), 4, rows, None)
    assert f"{np.sum(np.array(labels) < 0)} labels are negative" in str(e.value)
    assert e.value.argument == "labels"
