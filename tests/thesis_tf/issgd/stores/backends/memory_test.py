import uuid

import numpy as np

from thesis_tf.issgd.stores import RunSpec, open_store
from thesis_tf.issgd.stores.backends.memory import MemoryBackend

SPEC = RunSpec("model", "data", (("train", 25),), 3000, block_size=10)


def test_the_same_name_and_run_are_the_same_data():
    name = uuid.uuid4().hex
    with open_store(f"memory://{name}") as one, open_store(f"memory://{name}") as other:
        one.create(SPEC)
        one.push("train", 2, np.ones(5), 1, "w", 0.5, 0.0)
        other.join(SPEC)
        assert other.block_version("train", 2) == 1
        one.delete()


def test_another_name_or_run_is_empty():
    name = uuid.uuid4().hex
    with open_store(f"memory://{name}") as store:
        store.create(SPEC)
        assert MemoryBackend(name, "default").find() is not None
        assert MemoryBackend(name, "other").find() is None
        assert MemoryBackend(f"{name}2", "default").find() is None
        store.delete()
        assert MemoryBackend(name, "default").find() is None


def test_chunks_are_copied():

    with open_store(f"memory://{uuid.uuid4().hex}") as store:
        store.create(SPEC)
        values = np.zeros(SPEC.parameter_bytes, np.uint8)
        store.publish(values, 1)
        values[:] = 1
        assert not store.fetch().values.any()
        store.delete()
