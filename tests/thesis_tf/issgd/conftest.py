"""A URL for each kind of store, a small task to train on, and threads."""

import contextlib
import threading
import time
import uuid

import keras
import numpy as np
import pytest

from thesis_tf.issgd.stores import open_store

KINDS = ("memory", "shm", "redis", "cluster")


@pytest.fixture
def store_kinds():
    """The kinds of `store_url`."""
    return KINDS


@pytest.fixture(scope="session")
def shared_cluster(redis_factory):
    """A cluster of one node."""
    server = redis_factory("--cluster-enabled", "yes")
    server.cli("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    until = time.monotonic() + 300
    while "cluster_state:ok" not in server.cli("CLUSTER", "INFO"):
        assert time.monotonic() < until
        time.sleep(0.02)
    return server


@pytest.fixture(params=KINDS)
def store_url(request):
    """The URL of a store of each kind; memory:// and shm:// are empty, and deleted at the end."""
    if request.param in ("memory", "shm"):
        url = f"{request.param}://{uuid.uuid4().hex}"
        yield url
        open_store(url).delete()
    elif request.param == "redis":
        yield request.getfixturevalue("shared_redis").url
    else:
        port = request.getfixturevalue("shared_cluster").port
        yield f"redis+cluster://127.0.0.1:{port}"


@pytest.fixture
def open_run(store_url):
    """Returns a function that opens the same run of a store again; it is deleted at the end."""
    run_id, stores = uuid.uuid4().hex, []

    def start():
        stores.append(open_store(store_url, run_id=run_id))
        return stores[-1]

    yield start
    for store in stores:
        store.close()
    open_store(store_url, run_id=run_id).delete()


@pytest.fixture
def open_memory():
    """Returns a function that opens the same run in this process again."""
    name = uuid.uuid4().hex
    yield lambda: open_store(f"memory://{name}")
    open_store(f"memory://{name}").delete()


class Task:
    """Random points of three classes, and a network of 51 parameters for them."""

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def __init__(self, train=90, validation=20, test=20):
        rng = np.random.default_rng(0)
        self.data = {
            name: (rng.normal(size=(n, 4)).astype(np.float32), rng.integers(3, size=n))
            for name, n in (("train", train), ("validation", validation), ("test", test))
        }

    def model(self, seed=0, learning_rate=0.1, hidden=6):
        """Returns a compiled model; the seed determines its weights."""
        layers = [keras.layers.Dense(hidden, "tanh"), keras.layers.Dense(3)]
        model = keras.Sequential([keras.Input((4,)), *layers])
        rng = np.random.default_rng(seed)
        model.set_weights([rng.normal(0, 0.5, w.shape) for w in model.get_weights()])
        model.compile(keras.optimizers.SGD(learning_rate), self.loss)
        return model


@pytest.fixture
def task():
    """A `Task`."""
    return Task()


@pytest.fixture
def in_thread():
    """A context in which a function runs in a thread; it must end without an error."""

    @contextlib.contextmanager
    def run(function):
        failed = []

        def work():
            try:
                function()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield
        thread.join(60)
        assert not thread.is_alive()
        if failed:
            raise failed[0]

    return run


@pytest.fixture
def until():
    """Returns a function that waits, at most a minute, until another one returns a true value."""

    def wait(condition):
        end = time.monotonic() + 900
        while not (result := condition()):
            assert time.monotonic() < end, "it never came to it"
            time.sleep(0.01)
        return result

    return wait
