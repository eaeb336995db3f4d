"""Real Redis servers on free ports of the loopback, and one URL for each kind of store."""

import shutil
import signal
import socket
import subprocess
import time
import uuid

import pytest

from thesis_tf.issgd.stores import open_store

SERVER = shutil.which("redis-server")
KINDS = ("memory", "shm", "redis", "cluster")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisServer:
    """A `redis-server` that keeps nothing on disk, with settings as on its command line."""

    def __init__(self, folder, *settings, port_setting="--port"):
        self.port = free_port()
        self.process = None
        # A port of its own, as a cluster's server else takes the one 10,000 above.
        self._command = [SERVER, "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command += ["--save", "", "--appendonly", "no", port_setting, str(self.port)]
        self._command += ["--cluster-port", str(free_port()), *map(str, settings)]
        self.start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said = []
        for line in self.process.stdout:
            said.append(line.decode())
            if b"Ready to accept connections" in line:
                return
        raise AssertionError("".join(said))

    def stop(self, how=signal.SIGKILL):
        """Ends it, as a crash does; nothing that was in it is left."""
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(how)
        self.process.wait()
        self.process.stdout.close()

    def restart(self):
        """Crashes it and starts it again, empty."""
        self.stop()
        self.start()

    def cli(self, *arguments):
        """Runs redis-cli on it."""
        done = subprocess.run(
            ["redis-cli", "-p", str(self.port), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()


@pytest.fixture(scope="session")
def redis_factory(tmp_path_factory):
    """A function that starts a `RedisServer`; all are stopped at the end of the session."""
    if SERVER is None:
        pytest.skip("redis-server is not on the PATH")
    pytest.importorskip("redis")
    servers = []

    def start(*settings, **kwargs):
        servers.append(RedisServer(tmp_path_factory.mktemp("redis"), *settings, **kwargs))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture
def start_redis(redis_factory):
    """A function that starts a `RedisServer`, which the test may stop and restart."""
    servers = []

    def start(*settings, **kwargs):
        servers.append(redis_factory(*settings, **kwargs))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture
def redis_server(start_redis):
    """A `RedisServer` for one test, which may stop and restart it."""
    return start_redis()


@pytest.fixture(scope="session")
def shared_redis(redis_factory):
    """A `RedisServer` that stays up, for tests that take a run id of their own."""
    return redis_factory()


@pytest.fixture(scope="session")
def shared_cluster(redis_factory):
    """A cluster of one node."""
    server = redis_factory("--cluster-enabled", "yes")
    server.cli("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    until = time.monotonic() + 10
    while "cluster_state:ok" not in server.cli("CLUSTER", "INFO"):
        assert time.monotonic() < until
        time.sleep(0.02)
    return server


@pytest.fixture(params=KINDS)
def store_url(request):
    """The URL of a store of each kind; memory:// and shm:// are empty and removed at the end."""
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
    """A function that opens the same run of a store again and again; it is removed at the end."""
    run_id, stores = uuid.uuid4().hex, []

    def start():
        stores.append(open_store(store_url, run_id))
        return stores[-1]

    yield start
    for store in stores:
        store.close()
    open_store(store_url, run_id).delete()
