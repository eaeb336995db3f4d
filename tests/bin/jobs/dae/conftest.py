import numpy as np
import pytest

from bin import dae
from bin.common import configs
from bin.jobs.dae import problem


@pytest.fixture
def made(tmp_path):
    """Returns a function from examples (n, ...) and settings of a config to a `Problem`."""

    def make(x, **settings):
        np.savez(tmp_path / "examples.npz", x=x)
        config = dae.Config(
            configs.Data(dataset=str(tmp_path / "examples.npz")),
            configs.Hardware(seed=3),
            configs.Training(epochs=2, batch_size=8),
            configs.ChainOptions(chains=12, chain_steps=40),
            **settings,
        )
        return problem.make(config, config.data.load_inputs())

    return make
