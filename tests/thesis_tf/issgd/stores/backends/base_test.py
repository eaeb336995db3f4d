"""Processes that share a run and are killed during their work."""

import itertools
import os
import signal
import time
import uuid

import numpy as np
import pytest

from thesis_tf.issgd.stores import RunNotFoundError, RunSpec, open_store

SPEC = RunSpec("model", "data", (("train", 100_000),), 5_000_000, block_size=2048)


@pytest.fixture(params=["shm", "redis", "cluster"])
def place(request):
    """(URL, run id) of an empty place that several processes can use."""
    run_id = uuid.uuid4().hex
    if request.param == "shm":
        url = f"shm://{run_id}"
    elif request.param == "redis":
        url = request.getfixturevalue("shared_redis").url
    else:
        url = f"redis+cluster://127.0.0.1:{request.getfixturevalue('shared_cluster').port}"
    yield url, run_id
    open_store(url, run_id=run_id).delete()


@pytest.fixture
def store(place):
    with open_store(place[0], run_id=place[1]) as store:
        store.create(SPEC)
        yield store


@pytest.fixture
def fork(place):
    """Returns a function that calls a function of a store in a separate process; returns its id."""
    running = []

    def start(function):
        process = os.fork()
        if process == 0:
            try:
                store = open_store(place[0], run_id=place[1])
                store.join(SPEC)
                function(store)
                os._exit(0)
            finally:
                os._exit(1)
        running.append(process)
        return process

    yield start
    for process in running:
        kill(process)


def kill(process):
    try:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def publish_for_ever(store):
    for version in itertools.count((store.head() or 0) + 1):
        store.publish(np.full(SPEC.parameter_bytes, version % 251, np.uint8), version)


def push_for_ever(store):
    for version in itertools.count(1):
        block = store.lease("train", "forked", 0.2)
        if block is not None:
            start, stop = store.block_range("train", block)
            values = np.full(stop - start, version, np.float32)
            store.push("train", block, values, version, "forked", float(version), 0.0)


def wait_for(condition):
    until = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


@pytest.mark.slow
def test_readers_never_see_torn_parameters(store, fork):
    fork(publish_for_ever)
    wait_for(lambda: store.head() is not None)
    out, versions, until = np.zeros(SPEC.parameter_bytes, np.uint8), [], time.monotonic() + 3

    while time.monotonic() < until:
        found = store.fetch(out=out)
        assert (out == found.version % 251).all()
        versions.append(found.version)

    assert versions == sorted(versions)
    assert len(set(versions)) > 5


@pytest.mark.slow
def test_a_block_of_a_killed_worker_is_handed_out_again(store, fork):
    def hold(store):
        store.lease("train", "killed", 0.6)
        store.heartbeat("worker", "killed")
        time.sleep(60)

    process = fork(hold)
    wait_for(lambda: store.alive("worker", 60))
    kill(process)

    assert store.lease("train", "w", 60) == 1
    time.sleep(0.65)
    assert store.lease("train", "w", 60) == 0
    assert store.lease("train", "w", 60) == 2


@pytest.mark.slow
def test_publishers_that_are_killed(store, fork, place):
    rng = np.random.default_rng(0)
    for _ in range(12):
        before = store.head()
        process = fork(publish_for_ever)
        wait_for(lambda before=before: store.head() != before)
        time.sleep(rng.uniform(0, 0.02))
        kill(process)
        found = store.fetch()
        assert found.version == store.head()
        assert (found.values == found.version % 251).all()

    version = store.head() + 1
    for _ in range(2):
        store.publish(np.full(SPEC.parameter_bytes, version % 251, np.uint8), version)
    assert store.fetch().version == version
    if place[0].startswith("shm"):
        # Only this version and the previous one exist; leftovers of killed processes were deleted.
        assert len(list(store._backend._folder.glob("p@*"))) == 2


@pytest.mark.slow
def test_workers_that_are_killed(store, fork):
    rng = np.random.default_rng(0)
    for _ in range(12):
        process = fork(push_for_ever)
        time.sleep(rng.uniform(0.02, 0.06))
        kill(process)
        found = store.pull("train")
        for block in np.flatnonzero(found.versions >= 0):
            start, stop = store.block_range("train", block)
            # A killed worker may have left values that are newer than their version.
            assert (found.values[start:stop] >= found.versions[block]).all()
            assert found.losses[block] == found.versions[block]

    time.sleep(0.25)
    blocks = [store.lease("train", "w", 60) for _ in range(store.num_blocks("train"))]
    assert sorted(blocks) == list(range(store.num_blocks("train")))


def test_weights_that_a_server_lost_are_never_made_zeros(redis_server):
    with open_store(redis_server.url) as store:
        store.create(SPEC)
        key = store._backend._key(store._run[0], "w", "train")
        redis_server.cli("DEL", key)  # like a server with `maxmemory-policy allkeys-lru`
        for call in (
            lambda: store.push("train", 3, np.ones(2048), 1, "w", 0.0, 0.0),
            lambda: store.push_examples("train", [5], [1.0]),
            lambda: store.block_version("train", 3),
            lambda: store.pull("train"),
            lambda: store.join(SPEC),
        ):
            with pytest.raises(RunNotFoundError):
                call()
        assert redis_server.cli("EXISTS", key) == "0"
        store.create(SPEC)
        assert np.isnan(store.pull("train").values).all()


def test_chunks_that_are_never_confirmed_expire(redis_server):
    with open_store(redis_server.url) as store:
        store.create(SPEC)
        tag, chunk = store._run[0], np.zeros(10, np.uint8)
        store._backend.write_chunks(tag, "master", "1.x", [chunk])
        key = store._backend._key(tag, "p", "master", "1.x", 0)
        assert 0 < int(redis_server.cli("TTL", key)) <= 600
        store.publish(np.zeros(SPEC.parameter_bytes, np.uint8), 0)
        stamp = store._backend.head(tag, "master").stamp
        assert int(redis_server.cli("TTL", store._backend._key(tag, "p", "master", stamp, 0))) == -1
