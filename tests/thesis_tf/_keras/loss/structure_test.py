import keras
import numpy as np
import pytest

from thesis_tf._keras.loss.structure import losses_of_outputs

Y, Z = np.zeros((4, 2), "float32"), np.ones((4, 3), "float32")


def model(form):
    i = keras.Input((3,))
    outputs = [keras.layers.Dense(2, name="a")(i), keras.layers.Dense(3, name="b")(i)]
    return keras.Model(i, dict(zip("ab", outputs, strict=True)) if form is dict else outputs)


def found(form, loss, *, weights=None, y=None, sample_weight=None):
    """Returns {the size of an output: (name of the loss, factor, size of y, sample weight)}."""
    outputs = {"a": Y, "b": Z} if form is dict else [Y, Z]
    y = ({"a": Y, "b": Z} if form is dict else [Y, Z]) if y is None else y
    parts = losses_of_outputs(model(form), loss, weights, y, outputs, sample_weight)
    return {
        part.outputs.shape[1]: (part.loss.__name__[:13], part.factor, part.y.shape[1], part.weight)
        for part in parts
    }


@pytest.mark.parametrize(
    ("form", "loss", "weights"),
    [
        (list, ["mse", "mae"], [0.5, 2.0]),
        (list, {"b": "mae", "a": "mse"}, {"b": 2.0, "a": 0.5}),
        (dict, {"b": "mae", "a": "mse"}, {"a": 0.5, "b": 2.0}),
    ],
)
def test_each_output_has_its_own(form, loss, weights):
    expected = {2: ("mean_squared_", 0.5, 2, None), 3: ("mean_absolute", 2.0, 3, None)}
    assert found(form, loss, weights=weights) == expected


def test_outputs_without_a_loss_need_no_labels():
    only = {3: ("mean_absolute", 1.0, 3, "w")}
    assert found(list, [None, "mae"], y=[Z], sample_weight="w") == only
    assert found(dict, {"b": "mae"}, y={"b": Z}, sample_weight="w") == only


@pytest.mark.parametrize(
    ("form", "loss", "y", "message"),
    [
        (list, ["mse"] * 3, None, "`loss` must be a list or dict of one for each output, a, b"),
        (dict, ["mse", "mae"], None, "`loss` must be a dict of one for each output, a, b"),
        (dict, "mse", [Y, Z], "The labels must be a dict of one for each output, a, b"),
        (list, "mse", Y, "The labels must be a list or dict of one"),
    ],
)
def test_what_has_no_sure_order_is_refused(form, loss, y, message):
    with pytest.raises(ValueError, match=message):
        found(form, loss, y=y)
