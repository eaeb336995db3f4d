"""Classifiers that are worse than a guess."""

import math

import pytest

from thesis_tf.reporting import guesses


@pytest.mark.parametrize(
    ("nats", "classes", "expected"),
    [
        (48.99, 10, True),
        (math.inf, 10, True),
        (4.7, 10, True),
        (4.5, 10, False),
        (math.log(10), 10, False),
        (0.0, 2, False),
        (math.nan, 10, False),
        (5.0, 1, False),  # one class has nothing to guess
    ],
)
def test_what_is_worse_than_a_uniform_guess(nats, classes, expected):
    said = guesses.worse_than_uniform("The loss", nats, math.log(classes))
    assert bool(said) == expected
    if expected:
        assert said[0].startswith(f"The loss is {nats:.3g} nats, far worse")
        assert f"({math.log(classes):.3g})" in said[0]
