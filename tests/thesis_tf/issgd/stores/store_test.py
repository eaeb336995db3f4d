import itertools
import threading
import time

import numpy as np
import pytest

from thesis_tf.issgd.stores import (
    RunMismatchError,
    RunNotFoundError,
    RunSpec,
    RunTakenError,
    open_store,
    worker_hash,
)

# Three chunks of parameters, the last of which doesn't fill a page; the last block has 5 examples.
BYTES = (1 << 21) + 1000
SPEC = RunSpec("model", "data", (("train", 45), ("test", 10)), BYTES, block_size=10)


@pytest.fixture
def store(open_run):
    store = open_run()
    store.create(SPEC)
    return store


def random_parameters(seed):
    return np.random.default_rng(seed).integers(0, 256, BYTES, np.uint8)


def push(store, block, value, version=0, worker="w", split="train"):
    start, stop = store.block_range(split, block)
    values = np.full(stop - start, value, np.float32)
    store.push(split, block, values, version, worker, loss=value, error=0.5)


def test_a_new_run_has_measured_nothing(store):
    found = store.pull("train")

    assert found.values.dtype == np.float32
    assert found.values.shape == (45,)
    assert np.isnan(found.values).all()
    assert found.versions.tolist() == [-1] * 5
    assert found.versions.dtype == np.int64
    assert found.workers.tolist() == [0] * 5
    assert found.workers.dtype == np.uint64
    for column, dtype in ((found.times, "f8"), (found.losses, "f4"), (found.errors, "f4")):
        assert np.isnan(column).all()
        assert column.shape == (5,)
        assert column.dtype == dtype
    assert store.head() is None
    assert store.fetch() is None
    assert store.block_version("train", 0) is None
    assert not store.finished()
    assert store.alive("worker", 60) == []


def test_blocks(store):
    assert store.num_blocks("train") == 5
    assert store.num_blocks("test") == 1
    assert store.block_range("train", 3) == (30, 40)
    assert store.block_range("train", 4) == (40, 45)
    with pytest.raises(ValueError, match=r"`split` must be one of train, test.*'valid'"):
        store.num_blocks("valid")
    with pytest.raises(ValueError, match=r"`block` must be in \[0, 5\).*Received: 5"):
        store.block_range("train", 5)


def test_creating_it_again_keeps_it(store, open_run):
    push(store, 2, 3.0)
    store.publish(random_parameters(0), 7)
    store.finish()
    assert store.finished()

    again = open_run()
    again.create(SPEC)

    assert again.head() == 7
    assert again.pull("train").values[20] == 3.0
    assert not store.finished()
    assert open_run().join() == SPEC
    assert open_run().join(SPEC) == SPEC


def test_another_spec_is_refused(store, open_run):
    other = RunSpec("model", "changed", (("train", 45),), BYTES, block_size=10)

    for call in (open_run().create, open_run().join):
        with pytest.raises(RunMismatchError, match="data: other examples or labels") as raised:
            call(other)
        assert "splits: " in str(raised.value)
        assert "model:" not in str(raised.value)
        assert "another run id" in str(raised.value)


def test_a_run_that_is_not_there(open_run):
    with pytest.raises(RunNotFoundError, match="does not exist"):
        open_run().join(SPEC)
    with pytest.raises(RuntimeError, match="call `create` or `join`"):
        open_run().pull("train")


CALLS = {
    "publish": lambda s: s.publish(random_parameters(0), 1),
    "head": lambda s: s.head(),
    "fetch": lambda s: s.fetch(),
    "lease": lambda s: s.lease("train", "w", 1),
    "release": lambda s: s.release("train", 0, "w"),
    "block_version": lambda s: s.block_version("train", 0),
    "push": lambda s: push(s, 0, 1.0),
    "push_examples": lambda s: s.push_examples("train", [0], [1.0]),
    "pull": lambda s: s.pull("train"),
    "heartbeat": lambda s: s.heartbeat("worker", "w"),
    "alive": lambda s: s.alive("worker", 1),
    "finish": lambda s: s.finish(),
    "finished": lambda s: s.finished(),
    "claim_master": lambda s: s.claim_master("t", 1),
    "release_master": lambda s: s.release_master("t"),
}


@pytest.mark.slow
@pytest.mark.parametrize("anew", [False, True], ids=["deleted", "created again"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_run_that_is_gone(store, open_run, call, anew):
    store.publish(random_parameters(0), 0)
    push(store, 0, 1.0)
    other = open_run()
    other.join()
    other.delete()
    if anew:
        other.create(SPEC)

    with pytest.raises(RunNotFoundError, match="Call `create` or `join` again"):
        call(store)

    store.create(SPEC)
    assert np.isnan(store.pull("train").values).all()
    assert store.head() is None
    call(store)


def test_runs_do_not_meet(store_url):
    with open_store(store_url, run_id="one") as one, open_store(store_url, run_id="two") as two:
        one.create(SPEC)
        two.create(RunSpec("other", "data", (("train", 5),), 8))
        two.publish(bytes(8), 3)
        assert one.head() is None
        two.delete()
        assert one.join() == SPEC
        one.delete()


def test_parameters_come_whole(store, open_run):
    reader = open_run()
    reader.join()
    out = np.zeros(BYTES, np.uint8)

    for version in (0, 3, 4, 4, 9):
        values = random_parameters(version)
        store.publish(values, version)
        assert reader.head() == version
        found = reader.fetch(out=out)
        assert found.version == version
        assert found.values is out
        np.testing.assert_array_equal(out, values)
    assert reader.fetch(newer_than=9) is None
    assert reader.fetch(newer_than=8).version == 9
    assert reader.fetch("peer-1") is None


def test_slots_are_apart(store):
    store.publish(random_parameters(0), 5)
    store.publish(bytes(BYTES), 2, slot="peer-1")

    assert (store.head(), store.head("peer-1"), store.head("peer")) == (5, 2, None)
    assert not store.fetch("peer-1").values.any()
    np.testing.assert_array_equal(store.fetch().values, random_parameters(0))


def test_the_same_version_can_be_published_again(store):
    store.publish(random_parameters(0), 5)
    store.publish(random_parameters(1), 5)

    np.testing.assert_array_equal(store.fetch().values, random_parameters(1))


def test_what_can_not_be_published(store):
    store.publish(random_parameters(0), 5)

    with pytest.raises(ValueError, match=r"`version` must be at least 5.*Received: 4"):
        store.publish(random_parameters(1), 4)
    with pytest.raises(ValueError, match=r"`values` must be 2098152 bytes.*Received: 10 bytes"):
        store.publish(bytes(10), 6)
    with pytest.raises(ValueError, match="strides"):
        store.publish(np.zeros(2 * BYTES, np.uint8)[::2], 6)
    with pytest.raises(TypeError, match="bytes or a contiguous uint8 array"):
        store.publish([1, 2], 6)
    with pytest.raises(ValueError, match=r"`version` must be in \[0, 2\*\*53\)"):
        store.publish(random_parameters(1), -1)
    with pytest.raises(ValueError, match=r"`slot` must be .*Received: 'a:b'"):
        store.publish(random_parameters(1), 6, slot="a:b")
    with pytest.raises(ValueError, match="writable"):
        store.fetch(out=bytes(BYTES))
    np.testing.assert_array_equal(store.fetch().values, random_parameters(0))


def test_a_reader_of_the_parameters_before_is_not_starved(store):
    versions = [random_parameters(version) for version in range(4)]
    for version in range(2):
        store.publish(versions[version], version)
    backend, tag = store._backend, store._run[0]
    old = backend.head(tag, "master")
    chunk = np.zeros(1 << 20, np.uint8)

    def readable():
        return backend.read_chunks(tag, "master", old.stamp, [chunk], lambda _: True)

    store.publish(versions[2], 2)
    assert readable()
    np.testing.assert_array_equal(chunk, versions[1][: 1 << 20])
    store.publish(versions[3], 3)
    assert not readable()


def test_weights_come_back(store, open_run):
    rng = np.random.default_rng(0)
    values = rng.random(10).astype(np.float32)
    before = store.time()
    store.push("train", 1, values, version=7, worker="host:1", loss=0.5, error=0.25)
    store.push("train", 4, values[:5].astype(np.float64), 8, "host:2", loss=1.5, error=0.75)
    store.push("test", 0, values, 9, "host:1", loss=0.5, error=0.25)
    reader = open_run()
    reader.join()

    found = reader.pull("train")

    expected = np.full(45, np.nan, np.float32)
    expected[10:20], expected[40:] = values, values[:5]
    np.testing.assert_array_equal(found.values, expected)
    assert found.versions.tolist() == [-1, 7, -1, -1, 8]
    np.testing.assert_array_equal(found.losses, np.float32([np.nan, 0.5, np.nan, np.nan, 1.5]))
    np.testing.assert_array_equal(found.errors, np.float32([np.nan, 0.25, np.nan, np.nan, 0.75]))
    assert found.workers[[1, 4]].tolist() == [worker_hash("host:1"), worker_hash("host:2")]
    assert before <= found.times[1] <= found.times[4] <= found.now <= reader.time()
    assert [reader.block_version("train", block) for block in range(5)] == [None, 7, None, None, 8]
    assert reader.block_version("test", 0) == 9
    out = np.zeros(45, np.float32)
    assert reader.pull("train", out=out).values is out
    np.testing.assert_array_equal(out, expected)
    with pytest.raises(ValueError, match=r"`out` must be contiguous float32 \(45,\).* float64"):
        reader.pull("train", out=np.zeros(45))


def test_older_weights_do_not_overwrite_newer(store):
    push(store, 0, 2.0, version=7)
    push(store, 0, 1.0, version=6)
    assert store.pull("train").values[0] == 2.0
    assert store.block_version("train", 0) == 7
    push(store, 0, 3.0, version=7)
    assert store.pull("train").values[0] == 3.0


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (np.zeros(9), ValueError, r"of shape \(10,\). Received: \(9,\)"),
        (np.zeros((10, 1)), ValueError, r"of shape \(10,\). Received: \(10, 1\)"),
        (np.zeros(10, int), TypeError, "`values` must be floats. Received: int64"),
    ],
)
def test_what_is_no_block(store, values, kind, message):
    with pytest.raises(kind, match=message):
        store.push("train", 0, values, 0, "w", 0.0, 0.0)


def test_single_examples(store):
    push(store, 1, 1.0)
    store.push_examples("train", [0, 44, 15, 15], [4.0, 5.0, 6.0, 7.0])
    store.push_examples("train", np.array([], int), np.array([]))

    found = store.pull("train")

    expected = np.full(45, np.nan, np.float32)
    expected[10:20] = 1
    expected[[0, 44, 15]] = 4, 5, 7
    np.testing.assert_array_equal(found.values, expected)
    assert found.versions.tolist() == [-1, 0, -1, -1, -1]
    with pytest.raises(ValueError, match=r"`indices` must be in \[0, 45\).*Received: 3 to 45"):
        store.push_examples("train", [3, 45], [1.0, 1.0])
    with pytest.raises(TypeError, match="`indices` must be integers"):
        store.push_examples("train", [3.0], [1.0])
    with pytest.raises(ValueError, match=r"of shape \(1,\)"):
        store.push_examples("train", [3], [1.0, 2.0])


def test_leases_go_round(store):
    assert [store.lease("train", "w", 60) for _ in range(3)] == [0, 1, 2]
    push(store, 1, 1.0)
    assert [store.lease("train", "w", 60) for _ in range(4)] == [3, 4, 1, None]
    assert store.lease("test", "w", 60) == 0
    assert store.lease("test", "w", 60) is None
    store.release("train", 2, "w")
    assert store.lease("train", "w", 60) == 2


@pytest.mark.slow
def test_an_expired_lease_is_handed_out_first(store):
    # Long enough that even on a busy machine the first two don't expire before the third request.
    assert store.lease("train", "dead", 2.0) == 0
    assert store.lease("train", "dead", 1.0) == 1
    assert store.lease("train", "w", 60) == 2
    time.sleep(2.1)

    assert [store.lease("train", "w", 60) for _ in range(4)] == [1, 0, 3, 4]


def test_a_lease_is_its_owners(store):
    for _ in range(5):
        store.lease("train", "mine", 60)
    store.release("train", 0, "other")
    push(store, 1, 1.0, worker="other")
    assert store.lease("train", "other", 60) is None

    push(store, 1, 1.0, worker="mine", version=0)
    assert store.lease("train", "other", 60) == 1


def test_no_block_is_leased_twice(open_run):
    spec = RunSpec("model", "data", (("train", 400),), 8, block_size=1)
    open_run().create(spec)
    leased = [[] for _ in range(8)]

    def work(mine):
        store = open_run()
        store.join(spec)
        while (block := store.lease("train", "w", 60)) is not None:
            mine.append(block)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in leased]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(itertools.chain(*leased)) == list(range(400))


def test_one_store_in_several_threads(store):
    failed = []

    def work(block):
        try:
            for version in range(20):
                push(store, block, float(version), version, f"w{block}")
                found = store.pull("train")
                start, stop = store.block_range("train", block)
                assert (found.values[start:stop] == version).all()
                store.heartbeat("worker", f"w{block}")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(block,)) for block in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failed
    assert store.alive("worker", 60) == [f"w{block}" for block in range(5)]


def test_who_is_alive(store):
    store.heartbeat("worker", "b:2")
    store.heartbeat("worker", "a:1")
    store.heartbeat("peer", "c")
    assert store.alive("worker", 60) == ["a:1", "b:2"]
    time.sleep(0.1)
    store.heartbeat("worker", "b:2")
    assert store.alive("worker", 0.09) == ["b:2"]
    assert store.alive("peer", 60) == ["c"]


def test_a_run_has_one_master(store):
    store.claim_master("first", 60)
    store.claim_master("first", 0.2)
    with pytest.raises(RunTakenError, match=r"another master for 0 s, .* lasts 0\.[12] s more"):
        store.claim_master("second", 60)
    store.release_master("second")
    with pytest.raises(RunTakenError, match="If that master is dead, wait"):
        store.claim_master("second", 60)

    time.sleep(0.25)
    store.claim_master("second", 60)
    with pytest.raises(RunTakenError):
        store.claim_master("first", 60)
    store.release_master("second")
    store.claim_master("first", 60)


def test_the_clock_goes_on(store, open_run):
    before = store.time()
    time.sleep(0.05)
    assert 0.05 <= open_run().time() - before < 5


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_times_are_positive(store, seconds):
    with pytest.raises(ValueError, match="above 0"):
        store.lease("train", "w", seconds)


def test_names(store):
    with pytest.raises(TypeError, match="`worker` must be a name"):
        store.lease("train", "", 1)
    with pytest.raises(ValueError, match="`role` must be"):
        store.heartbeat("{}", "w")


def test_what_was_pulled_is_not_touched_by_the_next_pull(open_run):
    store = open_run()
    store.create(RunSpec("model", "data", (("train", 4), ("test", 4)), BYTES, block_size=10))
    push(store, 0, 1.0, version=1)
    push(store, 0, 2.0, version=2, split="test")
    train, test = store.pull("train"), store.pull("test")
    assert (train.losses.tolist(), test.losses.tolist()) == ([1.0], [2.0])
    assert (train.versions.tolist(), test.versions.tolist()) == ([1], [2])
