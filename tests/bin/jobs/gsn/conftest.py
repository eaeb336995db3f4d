import keras
import numpy as np
import pytest
import tensorflow as tf

from bin import gsn
from bin.common import configs
from bin.jobs.gsn import training

IMAGES = np.random.default_rng(0).uniform(size=(60, 4, 5, 1)).astype(np.float32)
SMALL = {"layers": (6, 5), "corruption_level": 0.3, "walkback_steps": (2,)}


@pytest.fixture(scope="session")
def make_run():
    """Returns a function from examples (n, ...) and settings of a config to a `NetworkRun`.

    Three fifths of the examples are for training, a fifth each for validation and test.
    """

    def make(folder, x=IMAGES, epochs=1, binarize=False, seed=3, **network):
        train, validation, test = np.split(x, [3 * len(x) // 5, 4 * len(x) // 5])
        path = folder.parent / f"{folder.name}_data.npz"
        np.savez(path, x_train=train, x_validation=validation, x_test=test)
        config = gsn.Config(
            configs.Data(str(path)),
            configs.Hardware(seed=seed),
            configs.Training(epochs=epochs, batch_size=9),
            gsn.Network(**{**SMALL, **network}),
            binarize,
            decay=0.5,
        )
        keras.utils.set_random_seed(seed)  # as `thesis_tf.hardware` does in the program
        return training.NetworkRun(config, folder, tf.distribute.get_strategy())

    return make
