import errno
import fcntl
import os
import stat
import uuid

import numpy as np
import pytest

from thesis_tf.issgd.stores import (
    RunNotFoundError,
    RunSpec,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    open_store,
)
from thesis_tf.issgd.stores.backends import shm

SPEC = RunSpec("model", "data", (("train", 45),), 3_000_000, block_size=10)


@pytest.fixture
def name():
    name = uuid.uuid4().hex
    yield name
    for run_id in ("default", "other"):
        open_store(f"shm://{name}", run_id=run_id).delete()


@pytest.fixture
def store(name):
    with open_store(f"shm://{name}") as store:
        store.create(SPEC)
        yield store


def test_only_the_user_can_read_it(store):
    folder = store._backend._folder
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert f"thesis_tf-{os.getuid()}-" in str(folder)


def test_deleting_leaves_nothing(name, store):
    folder = store._backend._folder
    with open_store(f"shm://{name}", run_id="other") as other:
        other.create(SPEC)
        store.publish(bytes(SPEC.parameter_bytes), 0)
        store.delete()
        assert not folder.exists()
        assert other.join() == SPEC
        other.delete()
    assert not folder.parent.exists()


def test_a_folder_that_others_can_write_to(name):
    folder = open_store(f"shm://{name}")._backend._folder.parent
    folder.mkdir()
    folder.chmod(0o777)
    for call in (open_store(f"shm://{name}").create, open_store(f"shm://{name}").join):
        with pytest.raises(StoreRefusedError, match="is not a folder that only user"):
            call(SPEC)
    folder.rmdir()


def test_a_link_in_its_place(name, tmp_path):
    folder = open_store(f"shm://{name}")._backend._folder.parent
    folder.symlink_to(tmp_path)
    with pytest.raises(StoreRefusedError, match="Remove it"):
        open_store(f"shm://{name}").create(SPEC)
    folder.unlink()


def test_a_process_that_was_stopped_with_the_lock(store, monkeypatch):
    monkeypatch.setattr(shm, "WAIT", 0.05)
    with (store._backend._folder / "lock").open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailableError, match="one of its processes is suspended"):
            store.head()
    assert store.head() is None


def test_weights_that_were_removed(store):
    (store._backend._folder / "w@train").unlink()
    with pytest.raises(RunNotFoundError):
        store.pull("train")
    with pytest.raises(RunNotFoundError):
        open_store(f"shm://{store._backend._folder.parent.name.rpartition('-')[2]}").join()
    store.create(SPEC)
    assert np.isnan(store.pull("train").values).all()


def test_damaged_parameters(store):
    store.publish(np.ones(SPEC.parameter_bytes, np.uint8), 3)
    (path,) = store._backend._folder.glob("p@*")
    with path.open("r+b") as file:
        file.seek(2_000_000)
        file.write(b"\2")
    with pytest.raises(StoreError, match=r"Parameters 3 in slot 'master' .* damaged"):
        store.fetch()
    os.truncate(path, 100)
    with pytest.raises(StoreError, match="damaged or incomplete"):
        store.fetch()
    path.unlink()
    with pytest.raises(StoreError, match="Publish some again"):
        store.fetch()
    store.publish(np.ones(SPEC.parameter_bytes, np.uint8), 3)
    assert store.fetch().values.all()


def test_no_room(store, monkeypatch):
    write = os.pwrite

    def full(descriptor, data, offset):
        if offset > 1 << 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StoreError, match="--shm-size"):
            store.publish(bytes(SPEC.parameter_bytes), 0)
    assert not list(store._backend._folder.glob("p@*"))
    store.publish(bytes(SPEC.parameter_bytes), 0)
