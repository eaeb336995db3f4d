import contextlib
import uuid

import pytest
from absl.testing import flagsaver

from bin import issgd_worker  # noqa: F401  # defines --store
from bin.common import ends
from bin.common.flags import UsageError
from bin.jobs.issgd import store_url
from thesis_tf.issgd.stores import (
    RunMismatchError,
    RunSpec,
    RunTakenError,
    StoreError,
    open_store,
)
from thesis_tf.issgd.stores.backends.shm import MEMORY


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv("ISSGD_STORE", raising=False)
    with flagsaver.flagsaver(store=None):
        yield


def test_the_flag_comes_first_then_the_environment(monkeypatch):
    assert store_url.given_url() is None
    assert store_url.url_of_run("r1") == "shm://r1"
    monkeypatch.setenv("ISSGD_STORE", "redis://h:1/0")
    assert store_url.url_of_run("r1") == "redis://h:1/0"
    with flagsaver.flagsaver(store="shm://here"):
        assert store_url.given_url() == "shm://here"


def test_another_scheme_is_refused_without_a_password():
    with flagsaver.flagsaver(store="http://user:secret@host"), pytest.raises(UsageError) as caught:
        store_url.given_url()
    assert "must be a URL that begins with shm://" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_folders_have_different_places(tmp_path):
    a, b = (store_url.url_of_folder(tmp_path / name, "r") for name in "ab")
    assert a != b
    assert a == store_url.url_of_folder(tmp_path / "b" / ".." / "a", "r")


@pytest.mark.parametrize(
    ("error", "stays"),
    [
        *((None, False), (ValueError, False), (KeyboardInterrupt, False), (OSError, False)),
        (RunTakenError, True),  # another process trains with it
    ],
)
def test_shared_memory_is_freed_however_a_program_ends(error, stays):
    run_id = uuid.uuid4().hex
    store = open_store(f"shm://{run_id}", run_id=run_id)
    store.create(RunSpec("model", "data", (("train", 8),), 8))
    assert list(MEMORY.glob(f"*{run_id}"))
    with contextlib.suppress(BaseException), store_url.freed(store):
        if error is not None:
            raise error("bad")
    assert bool(list(MEMORY.glob(f"*{run_id}"))) == stays
    store.delete()


def test_errors_of_stores_end_a_program_with_a_line():
    with pytest.raises(ends.RunError, match="gone"), store_url.clean_errors():
        raise StoreError("gone")
    with pytest.raises(UsageError, match="differs"), store_url.clean_errors():
        raise RunMismatchError("differs")
    with pytest.raises(KeyError), store_url.clean_errors():
        raise KeyError
