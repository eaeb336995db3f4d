"""What every test needs: two virtual CPU devices, parsed flags, and the folder of real data."""

import os
import pathlib

import pytest

ASSETS = pathlib.Path(os.environ.get("THESIS_ASSETS", "~/.cache/thesis-assets")).expanduser()

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def pytest_configure(config):
    """Parses absl's flags, and cuts the CPU in two while TensorFlow has not begun to compute."""
    import tensorflow as tf
    from absl import flags

    flags.FLAGS.mark_as_parsed()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture
def two_devices():
    """The names of two logical CPU devices, for tests of mirrored training on one machine."""
    return ["CPU:0", "CPU:1"]


@pytest.fixture
def asset():
    """A function from a file's name to its path in $THESIS_ASSETS; skips where it is absent."""

    def find(name):
        path = ASSETS / name
        if not path.exists():
            pytest.skip(f"{name} is not in {ASSETS} (set THESIS_ASSETS to the folder that has it)")
        return path

    return find
