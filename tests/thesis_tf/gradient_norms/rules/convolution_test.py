import keras
import pytest

from thesis_tf.gradient_norms.forms import Outer
from thesis_tf.gradient_norms.rules.convolution_form import Convolution

L = keras.layers
SERIES, IMAGE, VOLUME = (6, 4), (5, 6, 4), (3, 4, 3, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: L.Conv1D(3, 3, padding="causal", dilation_rate=2, activation="tanh"), SERIES),
        (lambda: L.Conv1D(3, 2, use_bias=False), SERIES),
        (lambda: L.Conv2D(3, (2, 3), strides=(1, 2), padding="same"), IMAGE),
        (lambda: L.Conv2D(3, 3, dilation_rate=(1, 2)), IMAGE),
        (lambda: L.Conv2D(4, 3, groups=2, strides=2, padding="same"), IMAGE),
        (lambda: L.Conv2D(3, 2, strides=3), IMAGE),  # some pixels are not used
        (lambda: L.Conv3D(2, 2, padding="same", strides=2), VOLUME),
        (lambda: L.DepthwiseConv1D(3, padding="same"), SERIES),
        (lambda: L.DepthwiseConv2D(2, depth_multiplier=2, strides=2, padding="same"), IMAGE),
        (lambda: L.DepthwiseConv2D(2, dilation_rate=2), IMAGE),
        (lambda: L.SeparableConv1D(3, 3, activation="tanh"), SERIES),
        (lambda: L.SeparableConv2D(3, 2, depth_multiplier=2, strides=2, padding="same"), IMAGE),
        (lambda: L.Conv1DTranspose(3, 3, strides=2), SERIES),
        (lambda: L.Conv2DTranspose(3, 3, strides=2, padding="same"), IMAGE),
        (lambda: L.Conv2DTranspose(3, 3, strides=2, output_padding=1), IMAGE),
        (lambda: L.Conv3DTranspose(2, 2, strides=2), VOLUME),
    ],
    ids=[
        "causal", "no bias", "strided", "dilated", "grouped", "gaps", "3D", "depthwise 1D",
        "depthwise", "depthwise, dilated", "separable 1D", "separable", "transposed 1D",
        "transposed", "transposed, output padding", "transposed 3D",
    ],
)  # fmt: skip
def test_gradients_are_those_of_jacobians(check_rule, make, shape):
    check_rule(make, shape)


def test_a_kernel_of_one_pixel_is_a_matrix_product(check_rule):
    kernel, _ = check_rule(lambda: L.Conv2D(3, 1, strides=(2, 3)), IMAGE).values()
    assert isinstance(kernel, Outer)
    kernel, _ = check_rule(lambda: L.Conv2D(4, 1, groups=2), IMAGE).values()
    assert isinstance(kernel, Convolution)
