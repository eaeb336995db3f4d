import itertools
import json
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from thesis_tf.gsn.likelihood import log_mean
from thesis_tf.gsn.likelihood.conservative import ConservativeEstimate, conservative_log_likelihood
from thesis_tf.gsn.reconstruction import Bernoulli, Normal, NormalMixture

RNG = np.random.default_rng(13)


class Coins:
    """Bernoulli units with only the methods that a reconstruction needs."""

    def pairwise_log_prob(self, outputs, x):
        log_p = -tf.nn.softplus(-outputs[:, tf.newaxis] * (2 * x - 1))
        return tf.reduce_sum(log_p, axis=2)


def bernoulli(logits, x):
    """Returns log P(x_j | h_i), (n, m), in float64."""
    logits, x = (np.reshape(a, (len(a), -1)) for a in (logits, x))
    return scipy.special.log_expit(logits[:, np.newaxis] * (2 * x - 1)).sum(axis=2)


def binary(*shape):
    return RNG.integers(0, 2, shape).astype(float)


def log_mean_exp(log_p):
    return scipy.special.logsumexp(log_p, axis=0) - np.log(len(log_p))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (9, 1), (21, 7)])
@pytest.mark.parametrize("reconstruction", [Coins(), Bernoulli()])
def test_against_scipy(reconstruction, shape, monkeypatch):
    monkeypatch.setattr(log_mean, "_BLOCK", 10)
    logits, test = 2 * RNG.normal(size=(*shape, 5)), binary(23, 5)
    found = conservative_log_likelihood(logits, test, reconstruction)
    log_p = log_mean_exp(bernoulli(logits.reshape(-1, 5), test))
    np.testing.assert_allclose(found.log_likelihoods, log_p, rtol=1e-12)
    assert found.log_likelihood == pytest.approx(log_p.mean(), rel=1e-12)
    alone = [log_mean_exp(bernoulli(chain, test)).mean() for chain in logits.swapaxes(0, 1)]
    np.testing.assert_allclose(found.chain_log_likelihoods, alone, rtol=1e-12)
    ends = sorted({shape[0] // part for part in (8, 4, 2, 1)} - {0})
    np.testing.assert_array_equal(found.sample_counts, np.array(ends) * shape[1])
    growth = [log_mean_exp(bernoulli(logits[:e].reshape(-1, 5), test)).mean() for e in ends]
    np.testing.assert_allclose(found.growth, growth, rtol=1e-12)
    if shape[1] == 1:
        assert math.isnan(found.chain_standard_error)
        one = conservative_log_likelihood(logits[:, 0], test, reconstruction)
        np.testing.assert_array_equal(one.log_likelihoods, found.log_likelihoods)
    else:
        error = np.std(alone, ddof=1) / math.sqrt(shape[1])
        assert found.chain_standard_error == pytest.approx(error, rel=1e-9)


@pytest.mark.slow
def test_images_in_float32():
    logits = 3 * RNG.normal(size=(16, 3, 28, 28, 1)).astype(np.float32)
    test = binary(9, 28, 28, 1).astype(np.float32)
    found = conservative_log_likelihood(logits, test, Bernoulli())
    exact = log_mean_exp(bernoulli(logits.reshape(48, -1).astype(float), test))
    # Sums of 784 rounded terms of about 1.
    np.testing.assert_allclose(found.log_likelihoods, exact, atol=784 * 6e-8 * 10)
    assert found.protocol == (
        "Conservative: mean of P(x | h) by Bernoulli over 48 samples (chains: 3, steps: 16), 9 test"
        " examples of 784 values, float32"
    )
    np.testing.assert_array_equal(found.sample_counts, [6, 12, 24, 48])
    summary = json.loads(json.dumps(found.summary()))
    assert list(summary["growth"]) == ["6", "12", "24", "48"]
    assert summary["growth"]["48"] == summary["log_likelihood"]


@pytest.mark.slow
def test_parameters_of_more_than_one_a_value():
    test = RNG.normal(size=(6, 2))
    normal = RNG.normal(size=(10, 4, 2, 2))
    found = conservative_log_likelihood(normal, test, Normal())
    flat = normal.reshape(40, 1, 2, 2)
    scale = np.logaddexp(0, flat[..., 1]) + 1e-3
    log_p = scipy.stats.norm.logpdf(test, flat[..., 0], scale).sum(axis=2)
    np.testing.assert_allclose(found.log_likelihoods, log_mean_exp(log_p), rtol=1e-9)
    # (n, ..., size) is not mistaken for (steps, chains, ...).
    assert conservative_log_likelihood(normal[:, 0], test, Normal()).chain_log_likelihoods.size == 1
    mixture = NormalMixture(2)
    outputs = RNG.normal(size=(7, 3, 2, 6))
    found = conservative_log_likelihood(outputs, test, mixture)
    each = [mixture.log_prob(tf.stack([o] * 6), test) for o in outputs.reshape(21, 2, 6)]
    np.testing.assert_allclose(found.log_likelihoods, log_mean_exp(np.array(each)), rtol=1e-9)


@pytest.mark.slow
def test_from_below_to_the_truth():
    # A mixture of four products of Bernoullis, for which P(x) is a sum over all x.
    logits, weights = 2 * RNG.normal(size=(4, 6)), np.array([0.1, 0.2, 0.3, 0.4])
    everything = np.array(list(itertools.product([0.0, 1.0], repeat=6)))
    log_p = scipy.special.logsumexp(bernoulli(logits, everything), axis=0, b=weights[:, np.newaxis])
    assert np.exp(log_p).sum() == pytest.approx(1)
    off, errors = [], []
    for count in (4, 64, 4096):
        chains = RNG.choice(4, p=weights, size=(count, 400))
        alone = [log_mean_exp(bernoulli(logits, everything)[chain]).mean() for chain in chains.T]
        if count == 64:
            found = conservative_log_likelihood(logits[chains], everything, Bernoulli())
            np.testing.assert_allclose(found.chain_log_likelihoods, alone, rtol=1e-12)
            assert found.log_likelihood > np.mean(alone)
        off.append(np.mean(alone) - log_p.mean())
        errors.append(np.std(alone, ddof=1) / 20)
    assert off[0] < -5 * errors[0]
    assert off[0] < off[1] < off[2]
    # The bias is the variance of P(x | h) / P(x), divided by twice their number, here 4,096.
    variance = np.einsum("k,km->m", weights, np.exp(2 * (bernoulli(logits, everything) - log_p)))
    assert abs(off[2] + (variance - 1).mean() / 8192) < 5 * errors[2]


def independent(kind, train, test):
    """Returns log-likelihoods (m,) of independent values, by SciPy."""
    train, test = (np.reshape(x, (len(x), -1)) for x in (train, test))
    if kind == "Bernoulli":
        p = (train.sum(axis=0) + 1) / (len(train) + 2)
        return scipy.stats.bernoulli.logpmf(test, p).sum(axis=1)
    scale = np.maximum(train.std(axis=0), {"Normal of 0.7": 0.7}.get(kind, 1e-3))
    return scipy.stats.norm.logpdf(test, train.mean(axis=0), scale).sum(axis=1)


KINDS = {
    "Bernoulli": Bernoulli(),
    "Normal": Normal(),
    "Normal of 0.7": Normal(0.7),
    "NormalMixture": NormalMixture(2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_independent_values_are_the_baseline(kind):
    draws = binary(30, 2, 3)
    # A value that is always 1, and one that is always 0: neither is sure.
    draws[:, 0, 0], draws[:, 1, 1] = 1, 0
    train, test = draws[:20], draws[20:]
    size = KINDS[kind].size
    outputs = RNG.normal(size=(8, 2, 2, 3) + ((size,) if size > 1 else ()))
    found = conservative_log_likelihood(outputs, test, KINDS[kind], train=train)
    expected = independent(kind, train, test)
    np.testing.assert_allclose(found.baseline, expected, rtol=1e-10)
    assert found.summary()["baseline_log_likelihood"] == pytest.approx(expected.mean())
    rows = [line.split("  ")[0] for line in found.table().splitlines()]
    assert "independent values" in rows
    gain = found.log_likelihoods - expected
    error = np.hypot(np.std(gain, ddof=1) / 10**0.5, found.chain_standard_error)
    assert bool(found.warnings()) == (gain.mean() <= 2 * error)
    without = conservative_log_likelihood(outputs, test, KINDS[kind])
    assert without.baseline is None
    assert not without.warnings()
    assert "baseline_log_likelihood" not in without.summary()


# Pairs of equal bits: half the bits of independent ones are enough to describe them.
PAIRS = binary(60, 4).repeat(2, axis=1)
LEARNED = 4 * (2 * np.array(list(itertools.product([0.0, 1.0], repeat=4))).repeat(2, axis=1) - 1)


@pytest.mark.parametrize(
    ("logits", "good"),
    [(LEARNED, True), (np.zeros((16, 8)), False), (RNG.normal(size=(16, 8)), False)],
    ids=["what can be learned", "coin flips", "noise"],
)
@pytest.mark.parametrize("chains", [1, 2])
def test_an_estimate_that_is_no_better_than_independent_values_is_doubtful(logits, good, chains):
    outputs = np.tile(logits, (chains, 1, 1)).swapaxes(0, 1)
    found = conservative_log_likelihood(outputs, PAIRS[:30], Bernoulli(), train=PAIRS[30:])
    assert (found.warnings() == []) == good
    said = (
        f"independent values with the means of the training data, {found.baseline.mean():.2f} nats"
    )
    assert all(said in sentence for sentence in found.warnings())
    assert all(sentence in found.table().splitlines() for sentence in found.warnings())


@pytest.mark.parametrize(
    ("reconstruction", "train", "error"),
    [
        (Coins(), PAIRS, TypeError),
        (Bernoulli(), PAIRS[:0], ValueError),
        (Bernoulli(), PAIRS[:, :3], ValueError),
        (Bernoulli(), PAIRS * np.nan, ValueError),
    ],
)
def test_bad_training_examples(reconstruction, train, error):
    with pytest.raises(error, match="`train`"):
        conservative_log_likelihood(LEARNED, PAIRS, reconstruction, train=train)


class Wrong:
    def __init__(self, function):
        self.pairwise_log_prob = function


X, H = binary(4, 3), RNG.normal(size=(5, 3))


@pytest.mark.parametrize(
    ("outputs", "test", "reconstruction", "message"),
    [
        (H[:, :2], X, Coins(), r"`outputs` must be of shape \(steps, chains, 3\) or \(n, 3\)"),
        (H, X, Normal(), r"`outputs` must be of shape \(steps, chains, 3, 2\) or \(n, 3, 2\)"),
        (H[:0], X, Coins(), r"`outputs` must be .* not empty"),
        (H, X[:0], Coins(), r"`test` must be at least 1 point"),
        (H * np.nan, X, Coins(), r"`outputs` must be finite"),
        (H, X * np.nan, Coins(), r"`test` must be finite"),
        (H, 3 * X, Bernoulli(), r"Data of Bernoulli units must be in \[0, 1\]"),
        (H, X, Wrong(lambda o, x: tf.reduce_sum(o)), r"must be of shape \(\d, 4\).*shape \(\)"),
        (
            H,
            X,
            Wrong(lambda o, x: tf.matmul(o, x, transpose_b=True) / [0.0, 1, 0, 1]),
            r"must be finite for some h of each chain. Received: NaN or infinity for example 0",
        ),
    ],
)
def test_bad_values(outputs, test, reconstruction, message):
    with pytest.raises(ValueError, match=message):
        conservative_log_likelihood(outputs, test, reconstruction)


def test_bad_types():
    with pytest.raises(TypeError, match=r"`reconstruction` must be an object with pairwise_log_"):
        conservative_log_likelihood(H, X, None)
    with pytest.raises(TypeError, match=r"`test` must be of a floating dtype"):
        conservative_log_likelihood(H, X.astype(int), Coins())


def test_a_table_with_the_growth():
    found = ConservativeEstimate(
        np.array([1.0, 3.0]), np.array([1.0]), "how", np.array([500, 4000]), np.array([1.5, 2.0])
    )
    assert found.table() == (
        "samples              log-likelihood  standard error\n"
        "all chains together            2.00            1.00\n"
        "each chain alone               1.00               -\n"
        "the first 500                  1.50               -\n"
        "how"
    )
