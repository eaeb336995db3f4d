import json
import math

import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.gsn.likelihood import base


def test_means_and_errors():
    found = base.LikelihoodEstimate(np.array([1.0, 2, 6]), np.array([2.0, 4]), "so")
    assert found.log_likelihood == pytest.approx(3)
    assert found.standard_error == pytest.approx(math.sqrt(7 / 3))
    assert found.chain_standard_error == pytest.approx(1)
    assert json.loads(json.dumps(found.summary())) == {
        "log_likelihood": 3,
        "standard_error": pytest.approx(math.sqrt(7 / 3)),
        "chain_log_likelihood": 3,
        "chain_standard_error": pytest.approx(1),
        "protocol": "so",
    }


def test_one_of_something_has_no_error():
    found = base.LikelihoodEstimate(np.array([1.0]), np.array([1.0]), "")
    assert math.isnan(found.standard_error)
    assert math.isnan(found.chain_standard_error)
    assert found.summary()["standard_error"] is None
    assert found.summary()["chain_standard_error"] is None


def test_samples_are_told_apart_by_their_rank():
    samples = np.random.default_rng(0).normal(size=(1200, 4, 2, 1))
    chains, phrase = base.chains_of("`s`", samples, tf.TensorShape([2, 1]))
    assert phrase == "4,800 samples (chains: 4, steps: 1,200)"
    np.testing.assert_array_equal(chains[3, :, 1, 0], samples[:, 3, 1, 0])
    chains, phrase = base.chains_of("`s`", samples, tf.TensorShape([4, 2, 1]))
    assert phrase == "1,200 samples"
    np.testing.assert_array_equal(chains[0], samples)


@pytest.mark.parametrize("shape", [(3, 2), (3, 4, 5, 2), (3, 5, 1), (0, 2, 2), (0, 4, 2, 2)])
def test_bad_shapes(shape):
    with pytest.raises(ValueError, match=r"`s` must be of shape \(steps, chains, 2, 2\) or \(n, 2"):
        base.chains_of("`s`", np.zeros(shape), tf.TensorShape([2, 2]))


def test_bad_values():
    with pytest.raises(ValueError, match=r"`s` must be finite points"):
        base.chains_of("`s`", np.full((3, 2), np.inf), tf.TensorShape([2]))
    with pytest.raises(TypeError, match=r"`s` must be of a floating dtype"):
        base.chains_of("`s`", np.zeros((3, 2), bool), tf.TensorShape([2]))


def test_a_table_with_the_protocol():
    found = base.LikelihoodEstimate(np.array([1.0, 2, 6]), np.array([3.0]), "how")
    assert found.table() == (
        "samples              log-likelihood  standard error\n"
        "all chains together            3.00            1.53\n"
        "each chain alone               3.00               -\n"
        "how"
    )
    assert repr(found) == "LikelihoodEstimate(3.00 +- 1.53 nats; how)"
