"""A layer that is random at inference."""

import pytest


@pytest.fixture
def monte_carlo_dropout():
    """A layer that is random at inference, with a state that each call advances."""
    import keras

    class MonteCarloDropout(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="mc")
            self.seeds = keras.random.SeedGenerator(7)

        def call(self, x):
            return keras.random.dropout(x, 0.5, seed=self.seeds)

    return MonteCarloDropout()
