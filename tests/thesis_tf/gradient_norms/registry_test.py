import keras
import numpy as np
import pytest

from thesis_tf import gradient_norms
from thesis_tf.gradient_norms import registry


class Doubling(keras.layers.Layer):
    """2 W x, without an activation."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 2), name="w")

    def call(self, x):
        return keras.ops.matmul(x, self.w) * 2


@pytest.fixture
def forget():
    yield
    registry._RULES.pop(Doubling, None)


def model_and_data():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), Doubling(), keras.layers.Dense(1)])
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("f")
    return model, x, np.zeros((4, 1), "f")


def test_a_rule_of_ones_own(forget):
    model, x, y = model_and_data()
    mapped = gradient_norms.per_example_gradient_norms(model, "mse")(x, y)[1]

    @gradient_norms.register(Doubling, captures=())
    def doubling(call):
        d = gradient_norms.with_places(2 * call.gradient)
        yield call.layer.w, gradient_norms.Outer(gradient_norms.with_places(call.inputs), d)

    assert Doubling in gradient_norms.registered_kinds()
    ruled = gradient_norms.per_example_gradient_norms(model, "mse")(x, y)[1]
    np.testing.assert_allclose(ruled, mapped, rtol=1e-5)


def test_a_wrong_rule_is_found(forget):
    model, x, y = model_and_data()

    @gradient_norms.register(Doubling, captures=())
    def wrong(call):
        d = gradient_norms.with_places(call.gradient)
        yield call.layer.w, gradient_norms.Outer(gradient_norms.with_places(call.inputs), d)

    with pytest.raises(ValueError, match=r"doubling.*/w for example .* the layer's rule is wrong"):
        gradient_norms.per_example_gradient_norms(model, "mse")(x, y)


def test_a_subclass_with_a_call_of_its_own_has_no_rule():
    class Same(keras.layers.Dense):
        pass

    class Other(keras.layers.Dense):
        def call(self, x):
            return super().call(x * x)

    assert registry.rule_of(Same(2)) is registry.rule_of(keras.layers.Dense(2))
    assert registry.rule_of(Other(2)) is None
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), Other(2), keras.layers.Dense(1)])
    _, x, y = model_and_data()
    gradient_norms.per_example_gradient_norms(model, "mse")(x, y)  # runs the self-check


def test_lora_is_mapped():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    model.layers[0].enable_lora(2)
    _, x, y = model_and_data()
    _, _, layers = gradient_norms.per_example_gradient_norms(model, "mse", per_layer=True)(x, y)
    assert len(layers) == 2


def test_only_layers_have_rules():
    with pytest.raises(TypeError, match=r"must be a subclass of keras\.layers\.Layer"):
        gradient_norms.register(dict)
