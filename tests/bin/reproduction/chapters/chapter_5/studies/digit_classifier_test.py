import dataclasses

import keras
import numpy as np
import pytest
import scipy.special

from bin.reproduction.chapters.chapter_5.studies import digit_classifier
from bin.reproduction.engine import results
from thesis_tf import datasets

TINY = digit_classifier.Config(examples=(1000, 100, 200), epochs=2)


def test_a_linear_classifier_against_numpy(monkeypatch):
    def network():
        dense = keras.layers.Dense(10, kernel_initializer=keras.initializers.RandomNormal(0, 0.001))
        return keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), dense])

    monkeypatch.setattr(digit_classifier, "_network", network)
    config = digit_classifier.Config(examples=(128, 20, 50), epochs=0)
    found = digit_classifier.trained(config)
    kernel, bias = found["weights"]
    test = datasets.load_inputs("mnist_mini", examples=config.examples).test.x
    p = scipy.special.softmax(255 * test.reshape(50, -1) @ kernel + bias, axis=1)
    assert found["quality"]["confidence"] == pytest.approx(p.max(axis=1).mean(), rel=1e-4)
    # Samples of chains, (steps, chains, 28, 28, 1) in [0, 1].
    classify = digit_classifier.probabilities(found)
    chains = classify(test[:6].reshape(3, 2, 28, 28, 1))
    np.testing.assert_allclose(chains, p[:6].reshape(3, 2, 10), atol=1e-4)


@pytest.fixture(scope="module")
def found():
    return digit_classifier.trained(TINY)


@pytest.mark.slow
def test_it_learns_and_is_itself_again_from_its_weights(found, tmp_path):
    results.save(tmp_path / "found", found)
    classify = digit_classifier.probabilities(results.load(tmp_path / "found"))
    test = datasets.load_inputs("mnist_mini", examples=TINY.examples).test.x
    p = classify(test)
    assert p.shape == (200, 10)
    # The function takes pixels in [0, 1], like samples; the saved summary is of the same examples.
    assert p.max(axis=1).mean() == pytest.approx(found["quality"]["confidence"], rel=1e-5)
    assert found["accuracy"] > 0.7


@pytest.mark.slow
def test_samples_of_chains_keep_their_places(found):
    classify = digit_classifier.probabilities(found)
    images = np.random.default_rng(0).random((3, 2, 28, 28, 1), np.float32)
    p = classify(images)
    assert p.shape == (3, 2, 10)
    np.testing.assert_allclose(p[2, 1], classify(images[2, 1:])[0], rtol=1e-4)


@pytest.mark.slow
def test_a_seed_is_another_classifier(found):
    other = digit_classifier.trained(dataclasses.replace(TINY, seed=1))
    assert not np.array_equal(other["weights"][0], found["weights"][0])
