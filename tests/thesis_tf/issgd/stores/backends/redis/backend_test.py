import uuid

import numpy as np
import redis

from thesis_tf.issgd.stores import RunSpec, open_store

SPEC = RunSpec("model", "data", (("train", 25),), 3000, block_size=10)


def test_the_keys_are_those_of_the_module(shared_redis):
    run_id = uuid.uuid4().hex
    client = redis.Redis(port=shared_redis.port)
    with open_store(shared_redis.url, run_id=run_id) as store:
        store.create(SPEC)
        tag = client.get(f"{{{run_id}}}")[:16].decode()
        root = f"{{{run_id}}}:{tag}"
        store.lease("train", "w", 60)
        store.push("train", 1, np.ones(10), 3, "w", 0.5, 0.0)
        store.publish(bytes(3000), 7)
        store.heartbeat("worker", "w")
        store.claim_master("token", 60)
        store.finish()

        keys = {key.decode() for key in client.scan_iter(f"{{{run_id}}}*")}
        (chunk,) = (key for key in keys if f"{root}:p:" in key)
        assert chunk.startswith(f"{root}:p:master:7.")
        assert chunk.endswith(":0")
        names = ("w:train", "lease:train", "owner:train", "head:master", "claim", "finished")
        expected = {f"{root}:{name}" for name in (*names, "alive:worker")}
        assert keys == expected | {chunk, f"{{{run_id}}}"}
        assert client.get(chunk) == bytes(3000)
        store.delete()
    assert list(client.scan_iter(f"{{{run_id}}}*")) == []


def test_a_value_that_is_pushed_is_in_the_string_of_its_split(shared_redis):
    run_id = uuid.uuid4().hex
    client = redis.Redis(port=shared_redis.port)
    with open_store(shared_redis.url, run_id=run_id) as store:
        store.create(SPEC)
        store.push("train", 2, np.arange(5.0), 3, "w", 0.5, 0.0)
        tag = client.get(f"{{{run_id}}}")[:16].decode()
        data = client.get(f"{{{run_id}}}:{tag}:w:train")
        record = 48 + 4 * 10
        assert len(data) == 3 * record
        np.testing.assert_array_equal(
            np.frombuffer(data[2 * record + 48 :], "<f4")[:5], np.arange(5.0)
        )
        store.delete()
