"""What chains, estimates and exports do with inputs that would give plausible wrong numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import gsn, mcmc
from thesis_tf.autoencoders import CriterionModel, DenoisingLoss, fit_full_batch
from thesis_tf.mcmc import MaskClamp, sample_chain

RNG = np.random.default_rng(0)
X = RNG.uniform(size=(5, 6)).astype(np.float32)
MASK = np.arange(6) < 3


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    model = gsn.GSN([4, 3])
    model.build((None, 6))
    return model


def with_nan(mask):
    x = X.copy()
    x[:, mask] = np.nan
    return x


STARTS = {
    "raw pixels": (lambda: (255 * X, None), ValueError, r"in \[0, 1\]"),
    "raw pixels in the clamp": (lambda: (X, MaskClamp(MASK, 16 * X)), ValueError, r"in \[0, 1\]"),
    "another shape": (lambda: (X[:, :4], None), ValueError, r"of shape \(6,\)"),
    "one axis more": (lambda: (X.reshape(5, 3, 2), None), ValueError, r"of shape \(6,\)"),
    "one example": (lambda: (X[0], None), ValueError, r"of shape \(n, ...\)"),
    "integers": (lambda: (X.astype(int), None), TypeError, "floating"),
    "booleans": (lambda: (X > 0.5, None), TypeError, "floating"),
    "NaN without a clamp": (lambda: (with_nan(~MASK), None), ValueError, "finite"),
    "NaN that is known": (
        lambda: (X, MaskClamp(MASK, with_nan(MASK))), ValueError, "finite where the mask is true",
    ),
    "infinity": (
        lambda: (np.where(MASK, X, np.inf).astype("f4"), MaskClamp(MASK, X)), ValueError, "finite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STARTS)
def test_where_chains_begin(name, network):
    make, error, match = STARTS[name]

    def begin():
        x, clamp = make()
        sample_chain(network.transition_kernel(), x, 2, clamp=clamp)

    with pytest.raises(error, match=match):
        begin()


def test_nan_is_unknown_under_a_clamp(network):
    kernel = network.transition_kernel()
    unknown = with_nan(~MASK)
    clamp = MaskClamp(~np.isnan(unknown), unknown)
    found = sample_chain(kernel, unknown, 3, clamp=clamp).samples
    begun = np.where(MASK, X, np.float32(0.5))
    np.testing.assert_array_equal(found, sample_chain(kernel, begun, 3, clamp=clamp).samples)
    assert np.isfinite(found).all()
    assert (found[..., MASK] == X[:, MASK]).all()
    dependency = gsn.DependencyNetwork(lambda x: 2 * x).transition_kernel()
    assert np.isfinite(sample_chain(dependency, unknown, 3, clamp=clamp).samples).all()


def test_the_exported_signatures_do_the_same(network, tmp_path):
    gsn.export(network, tmp_path / "m")
    served = tf.saved_model.load(str(tmp_path / "m")).signatures
    rest = {"mask": tf.constant(np.broadcast_to(MASK, X.shape)), "steps": tf.constant(3)}
    seed = tf.constant([0, 1])

    def inpaint(x):
        return served["inpaint"](x=tf.constant(x), seed=seed, **rest)["x"].numpy()

    begun = np.where(MASK, X, np.float32(0.5))
    np.testing.assert_array_equal(inpaint(with_nan(~MASK)), inpaint(begun))
    hidden = served["start"](x=tf.constant(X))
    for bad in (with_nan(MASK), 16 * X):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"x must be in \[0, 1\]"):
            inpaint(bad)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"x must be in \[0, 1\]"):
            served["step"](x=tf.constant(bad), seed=seed, **hidden)


def head(*last):
    return keras.Sequential([keras.Input((6,)), *last])


dense = keras.layers.Dense


def functional():
    x = keras.Input((6,))
    return keras.Model(x, keras.ops.sigmoid(dense(6)(x)))


class Own(keras.Model):
    def __init__(self, activation):
        super().__init__()
        self.last, self.activation = dense(6), activation

    def build(self, shape):
        self.last.build(shape)
        self.built = True

    def call(self, x):
        return self.activation(self.last(x))


BOUNDED = {
    "sigmoid": lambda: head(dense(6, "sigmoid")),
    "softmax": lambda: head(dense(6, "softmax")),
    "tanh": lambda: head(dense(6, "tanh")),
    "relu": lambda: head(dense(6), keras.layers.ReLU()),
    "Activation": lambda: head(dense(6), keras.layers.Activation("sigmoid")),
    "Softmax": lambda: head(dense(6), keras.layers.Softmax()),
    "reshaped": lambda: head(dense(6, "sigmoid"), keras.layers.Reshape((6,))),
    "nested": lambda: head(head(dense(6, "sigmoid"))),
    "keras.ops": functional,
    "Keras' sigmoid in a model of one's own": lambda: Own(keras.activations.sigmoid),
    "tf.sigmoid in a model of one's own": lambda: Own(tf.sigmoid),
    "a clipped output": lambda: Own(lambda x: tf.clip_by_value(x, 0, 1)),
}
LOGITS = {
    "linear": lambda: head(dense(6)),
    "zeros": lambda: head(dense(6, kernel_initializer="zeros")),
    "sigmoid inside": lambda: head(dense(9, "sigmoid"), dense(6)),
    "own": lambda: Own(tf.identity),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_a_network_that_ends_in_a_sigmoid(name):
    with pytest.raises(ValueError, match="`network` must be a model that returns logits"):
        gsn.WalkbackAutoEncoder(BOUNDED[name]()).build((None, 6))
    # A location may be bounded.
    gsn.WalkbackAutoEncoder(BOUNDED[name](), reconstruction=gsn.Normal(0.1)).build((None, 6))


@pytest.mark.parametrize("name", LOGITS)
def test_a_network_that_returns_logits(name):
    gsn.WalkbackAutoEncoder(LOGITS[name]()).build((None, 6))


@pytest.mark.parametrize("name", ["sigmoid", "nested", "keras.ops"])
def test_other_tools_that_take_logits(name):
    model = BOUNDED[name]()
    criterion = DenoisingLoss(0.1, distance="bernoulli_from_logits")
    with pytest.raises(ValueError, match="`network` must be a model that returns logits"):
        gsn.DependencyNetwork(model)
    with pytest.raises(ValueError, match="`distance` must be 'bernoulli'"):
        CriterionModel(model, criterion)
    with pytest.raises(ValueError, match="`distance` must be 'bernoulli'"):
        fit_full_batch(model, criterion, X)


def test_cross_entropies_use_the_logits_of_a_sigmoid():
    x, z = tf.ones((1, 1)), tf.constant([[-40.0]])  # the probability is 0 in float32
    distance = DenoisingLoss(None, distance="bernoulli")
    assert float(distance(lambda x: keras.activations.sigmoid(z), x)[0]) == pytest.approx(40)
    assert np.isnan(distance(lambda x: z, x)[0])  # logits, which Keras would clip
    with pytest.raises(ValueError, match="`distance` must be 'bernoulli'"):
        DenoisingLoss(None, distance="bernoulli_from_logits")(
            lambda x: keras.activations.sigmoid(z), x
        )


@pytest.mark.parametrize("output", ["mean", "distribution_parameters", None])
def test_estimates_know_what_chains_kept(output, network, tmp_path):
    kernel = network.transition_kernel()
    kept = None if output is None else getattr(kernel, output)
    chains = sample_chain(kernel, X, 40, output_fn=kept)
    chains.save(tmp_path / "chains.npz")
    chains = mcmc.Chains.load(tmp_path / "chains.npz")
    conservative = (chains, X, network.reconstruction)
    parzen = (chains, X, X[::-1] + 0.01)
    if output == "distribution_parameters":
        found = gsn.conservative_log_likelihood(*conservative, verbose=0)
        again = gsn.conservative_log_likelihood(chains.samples, *conservative[1:], verbose=0)
        assert found.log_likelihood == again.log_likelihood
        with pytest.raises(ValueError, match="chains that kept distribution_parameters"):
            gsn.parzen_log_likelihood(*parzen, verbose=0)
        return
    with pytest.raises(ValueError, match=f"Received: chains that kept {output or 'state'}"):
        gsn.conservative_log_likelihood(*conservative, verbose=0)
    with pytest.raises(ValueError, match="must be logits"):
        gsn.conservative_log_likelihood(chains.samples, *conservative[1:], verbose=0)
    found = gsn.parzen_log_likelihood(*parzen, sigmas=[0.1, 0.2, 0.4, 2.0], verbose=0)
    again = gsn.parzen_log_likelihood(
        chains.samples, *parzen[1:], sigmas=[0.1, 0.2, 0.4, 2.0], verbose=0
    )
    assert found.log_likelihood == again.log_likelihood


def normal_log_likelihood(means, x, scale):
    """Returns log mean N(x; means, scale^2 I) for each x, by direct differences."""
    means, x = np.asarray(means, np.longdouble), np.asarray(x, np.longdouble)
    squares = np.square((x[:, None] - means) / scale).sum(axis=2)
    exponents = -squares / 2 - x.shape[1] * (np.log(np.longdouble(scale)) + np.log(2 * np.pi) / 2)
    top = exponents.max(axis=1, keepdims=True)
    return (np.log(np.exp(exponents - top).mean(axis=1)) + top[:, 0]).astype(float)


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("scale", [1.0, 0.01, 0.001])
def test_densities_with_small_scales_in_float32(scale, offset):
    means = (offset + RNG.normal(size=(30, 20))).astype(np.float32)
    test = (means[:4] + scale * RNG.normal(size=(4, 20))).astype(np.float32)
    expected = normal_log_likelihood(means, test, scale)
    found = gsn.conservative_log_likelihood(means, test, gsn.Normal(scale), verbose=0)
    np.testing.assert_allclose(found.log_likelihoods, expected, rtol=1e-9, atol=1e-6)
    shift = test[::-1] + np.float32(scale)
    parzen = gsn.parzen_log_likelihood(means, test, shift, sigmas=scale, verbose=0)
    # In float32 where its rounding is below a hundredth of a nat, else in float64.
    np.testing.assert_allclose(parzen.log_likelihoods, expected, rtol=1e-9, atol=0.01)
    pixels = np.float32(-np.log(np.expm1(1.0)))  # other scales than one
    outputs = np.stack([means, np.full_like(means, pixels)], axis=-1)
    head = gsn.Normal(smallest=scale)
    widths = np.log1p(np.exp(float(pixels))) + scale
    predicted = gsn.conservative_log_likelihood(outputs, test, head, verbose=0)
    np.testing.assert_allclose(
        predicted.log_likelihoods, normal_log_likelihood(means, test, widths), rtol=1e-6
    )


@pytest.mark.parametrize("scale", [255.0, 1 / 255])
def test_parzen_windows_of_other_units(scale):
    with pytest.warns(UserWarning, match="are their units the same"):
        found = gsn.parzen_log_likelihood(scale * X, X[:3], X[3:], verbose=0)
    assert any("The values of samples" in sentence for sentence in found.warnings())
    assert found.warnings()[0] in found.table()
    with pytest.warns(UserWarning, match="are their units the same"):
        found = gsn.parzen_log_likelihood(X[::-1] / 2, X[:3], scale * X[3:], verbose=0)
    assert any("The values of validation" in sentence for sentence in found.warnings())


def test_parzen_windows_on_the_test_points():
    x = RNG.normal(size=(20, 3))
    with pytest.warns(UserWarning, match="20 of 20 distinct test points are among samples"):
        found = gsn.parzen_log_likelihood(np.tile(x, (2, 1)), x, x + 0.1, verbose=0)
    assert "is too high" in found.warnings()[0]
    with pytest.warns(UserWarning, match="among validation"):
        gsn.parzen_log_likelihood(RNG.normal(size=(90, 3)), x, x[:12], verbose=0)


def test_rows_of_stored_hidden_units():
    model = gsn.GSN([4], initial_hidden="stored", num_remembered=5, walkback=1)
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"rows in \[0, 5\)"):
        model.fit(X, np.arange(1, 6), verbose=0)
