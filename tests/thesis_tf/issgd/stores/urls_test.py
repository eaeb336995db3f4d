import pytest

from thesis_tf.issgd.stores import RunSpec, open_store, urls

SPEC = RunSpec("model", "data", (("train", 5),), 8)


@pytest.mark.parametrize(
    "url",
    [
        "memory",
        "memory:///x",
        "memory://a b",
        "memory://x?db=1",
        "shm://",
        "shm://../x",
        "shm://..",
        "http://127.0.0.1",
        "redis://",
        "redis:///0",
        "redis://127.0.0.1/zero",
        "redis://127.0.0.1:port/0",
        "redis://127.0.0.1:99999/0",
        "redis://127.0.0.1/0#x",
        "redis+cluster://127.0.0.1/1",
        "",
    ],
)
def test_what_is_no_url(url):
    with pytest.raises(ValueError, match=r"must be .*Received: "):
        open_store(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:s3cret@127.0.0.1:port",
        "redis://me:s3cret@127.0.0.1/x",
        "redi://:s3cret@127.0.0.1",
        "redis://:s3cret@127.0.0.1/0?socket_timeout=s3cret",
        "redis://:s3cret@127.0.0.1/0?no_such=1",
        "redis://127.0.0.1/x?password=s3cret",
        "redis://127.0.0.1/0?password=s3cret",
        "redis://me:s3cret@[127.0.0.1",
        "redis://me:s3c@ret@127.0.0.1:port",
    ],
)
def test_a_password_is_never_shown(url):
    with pytest.raises(ValueError) as raised:
        open_store(url)
    assert "s3c" not in str(raised.value).replace("socket_timeout=s3cret", "")


def test_where_a_store_is():
    assert repr(open_store("memory://x")) == "Store(Run 'default' of memory://x)"
    assert repr(open_store("shm://x", run_id="a-1")) == "Store(Run 'a-1' of shm://x)"
    for url, shown in (
        ("redis://me:s3cret@example.org/2", "redis://example.org:6379/2"),
        ("rediss://:s3cret@example.org:1/0?ssl_cert_reqs=none", "rediss://example.org:1/0"),
        ("redis+cluster://s3cret@example.org", "redis+cluster://example.org:6379"),
        ("rediss+cluster://example.org/", "rediss+cluster://example.org:6379"),
        ("redis://[::1]:7000", "redis://[::1]:7000"),
    ):
        assert repr(open_store(url)) == f"Store(Run 'default' of {shown})"


def test_options_of_a_url():
    with pytest.raises(ValueError, match=r"must be one of ssl_ca_certs, .*Received: 'decode'"):
        open_store("redis://127.0.0.1/0?decode=1")
    with pytest.raises(ValueError, match=r"`ssl_ca_certs` .* file. Received: /no/such.pem"):
        open_store("rediss://127.0.0.1/0?ssl_ca_certs=/no/such.pem")


@pytest.mark.parametrize("run_id", ["", "{x}", "a/b", "..", "a:b", 7, "x" * 101])
def test_what_is_no_run_id(run_id):
    with pytest.raises(ValueError, match="`run_id` must be 1 to 100 of the characters"):
        open_store("memory://", run_id=run_id)
    with pytest.raises(TypeError):
        open_store(7)


def test_one_memory_of_each_name():
    with open_store("memory://") as one, open_store("memory://") as same:
        one.create(SPEC)
        assert same.join() == SPEC
        with open_store("memory://other") as other:
            other.create(RunSpec("another", "data", (("train", 5),), 8))
            other.delete()
        one.delete()


def test_the_tests_of_stores_run_on_every_kind(store_kinds):
    schemes = set(urls._LOCAL) | set(urls._REDIS)
    kinds = {"cluster" if "cluster" in s else s.replace("rediss", "redis") for s in schemes}
    assert kinds == set(store_kinds), (
        "add a new store to KINDS of tests/thesis_tf/issgd/conftest.py"
    )
