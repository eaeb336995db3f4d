import keras
import pytest

from thesis_tf.gradient_norms.registry import rule_of

L = keras.layers
IMAGE = (3, 4, 6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: L.BatchNormalization(),
        lambda: L.BatchNormalization(axis=1),
        lambda: L.BatchNormalization(scale=False),
        lambda: L.BatchNormalization(center=False, epsilon=0.5),
        lambda: L.LayerNormalization(),
        lambda: L.LayerNormalization(axis=[1, 3], epsilon=0.5),
        lambda: L.LayerNormalization(center=False),
        lambda: L.RMSNormalization(),
        lambda: L.RMSNormalization(axis=[2, 3], epsilon=0.5),
        lambda: L.GroupNormalization(2),
        lambda: L.GroupNormalization(3, axis=1, epsilon=0.5),
        lambda: L.GroupNormalization(6, scale=False),
    ],
    ids=[
        "batch", "batch, axis 1", "batch, no scale", "batch, no offset", "layer",
        "layer, two axes", "layer, no offset", "rms", "rms, two axes", "group", "group, axis 1",
        "group of one channel",
    ],
)  # fmt: skip
def test_gradients_are_those_of_jacobians(check_rule, make):
    check_rule(make, IMAGE)


def test_batch_normalization_in_training_mode_has_no_gradient_per_example(call_rule):
    with pytest.raises(ValueError, match=r"norm is a batch normalization in training mode"):
        call_rule(lambda: L.BatchNormalization(name="norm"), IMAGE, training=True)


# Keras warns that the argument is deprecated, but not in its version 3.10.
@pytest.mark.filterwarnings("ignore:.*rms_scaling:UserWarning")
def test_layer_normalization_that_scales_by_the_root_mean_square_has_no_rule():
    assert rule_of(L.LayerNormalization()) is not None
    assert rule_of(L.LayerNormalization(rms_scaling=True)) is None
