import json
import uuid

import numpy as np
import pytest

from thesis_tf.issgd.stores import RunNotFoundError, RunSpec
from thesis_tf.issgd.stores.backends.base import StoredRun
from thesis_tf.issgd.stores.backends.memory import MemoryBackend
from thesis_tf.issgd.stores.parameters import Head

SPEC = RunSpec("model", "data", (("train", 25),), 3000, block_size=10)
RUN = StoredRun("00000000000000ff", SPEC.to_json())


@pytest.fixture
def backend():
    backend = MemoryBackend(uuid.uuid4().hex, "run")
    backend.create(RUN, SPEC)
    yield backend
    backend.delete()


def test_the_state_is_json(backend):
    backend.lease(RUN.tag, "train", 3, "w", 60)
    backend.claim_master(RUN.tag, "token", 60)
    backend.heartbeat(RUN.tag, "worker", "w")
    with backend._state() as state:
        assert json.loads(json.dumps(state)) == state


def test_a_second_run_is_not_created(backend):
    other = StoredRun("00000000000000fe", SPEC.to_json())
    assert backend.create(other, SPEC) == RUN


def test_another_tag_is_no_run(backend):
    for call in (backend.is_finished, lambda tag: backend.lease(tag, "train", 3, "w", 1)):
        with pytest.raises(RunNotFoundError, match="not the run that was joined"):
            call("00000000000000fe")


def test_only_what_is_current_and_what_was_before_it_is_kept(backend):
    heads = []
    for version in range(4):
        head = Head.of(version, [0])
        backend.write_chunks(RUN.tag, "master", head.stamp, [np.full(3000, version, np.uint8)])
        current = heads[-1] if heads else None
        assert backend.set_head(RUN.tag, "master", head.after(current), current)
        heads.append(head.after(current))
    there = [
        backend.read_chunks(RUN.tag, "master", h.stamp, [np.empty(3000, np.uint8)], lambda _: True)
        for h in heads
    ]
    assert there == [False, False, True, True]
    assert not backend.set_head(RUN.tag, "master", heads[0], heads[1])  # no longer the current head
