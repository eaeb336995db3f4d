"""The error that is raised in each case, and the classes that catch it."""

import inspect
import socket
import uuid

import pytest

from thesis_tf.issgd import stores
from thesis_tf.issgd.stores import errors, open_store

SPEC = stores.RunSpec("model", "data", (("train", 45),), 1000, block_size=10)
OTHER = stores.RunSpec("model", "other data", (("train", 45),), 1000, block_size=10)


@pytest.fixture
def url():
    url = f"memory://{uuid.uuid4().hex}"
    with open_store(url) as store:
        store.create(SPEC)
        store.claim_master("first", 60)
        yield url
        store.delete()


def never_created(url):
    with open_store(url, run_id="another-run") as store:
        store.join()


def other_data(url):
    with open_store(url) as store:
        store.join(OTHER)


def second_master(url):
    with open_store(url) as store:
        store.join(SPEC)
        store.claim_master("second", 60)


def nobody_listens(url):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # it doesn't listen
        with open_store(f"redis://127.0.0.1:{probe.getsockname()[1]}") as store:
            store.join()


CASES = {
    never_created: errors.RunNotFoundError,
    other_data: errors.RunMismatchError,
    second_master: errors.RunTakenError,
    nobody_listens: errors.StoreUnavailableError,
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_each_case_has_its_error(case, url):
    if case is nobody_listens:
        pytest.importorskip("redis")
    with pytest.raises(errors.StoreError) as raised:
        case(url)
    assert raised.type is CASES[case]


def test_a_server_that_wants_a_password_refuses(start_redis):
    url = start_redis("--requirepass", "secret").url
    with pytest.raises(errors.StoreError) as raised, open_store(url) as store:
        store.join()
    assert raised.type is errors.StoreRefusedError


def test_all_are_store_errors_and_those_that_waiting_cannot_mend_are_value_errors():
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass)}
    assert all(issubclass(kind, errors.StoreError) for kind in kinds)
    assert {kind for kind in kinds if issubclass(kind, ValueError)} == {
        errors.RunMismatchError,
        errors.StoreRefusedError,
    }
    # No error is a subclass of another, so a handler doesn't catch another error by accident.
    cases = kinds - {errors.StoreError}
    assert not any(issubclass(a, b) for a in cases for b in cases if a is not b)


def test_all_are_exported():
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        assert getattr(stores, name) is kind
        assert name in stores.__all__
