"""Used by all tests: four virtual CPU devices, parsed flags, real data, real Redis servers."""

import contextlib
import itertools
import os
import pathlib
import shutil
import signal
import socket
import subprocess

import numpy as np
import pytest

SERVER = shutil.which("redis-server")
ASSETS = pathlib.Path(os.environ.get("THESIS_ASSETS", "~/.cache/thesis-assets")).expanduser()

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def pytest_configure(config):
    """Parses absl's flags, and splits the CPU in four before TensorFlow computes anything.

    Graphs aren't optimized, see `graphs_of_file`.
    """
    import tensorflow as tf
    from absl import flags

    # Processes that a shell starts in the background ignore Ctrl-C, and so would their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    flags.FLAGS.mark_as_parsed()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
    _optimize_graphs(False)


def _optimize_graphs(optimized):
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not optimized})


@pytest.fixture(autouse=True, scope="module")
def graphs_of_file(request):
    """Runs graphs through TensorFlow's optimizer in tests of programs, and where a file says so.

    It takes a quarter of the time of tests with many small graphs, so others are without. A file
    with `OPTIMIZED_GRAPHS = True` compares with processes of their own, which have it, to the last
    bit, or tests what it may change.
    """
    is_of_programs = "bin" in request.path.parts
    _optimize_graphs(is_of_programs or getattr(request.module, "OPTIMIZED_GRAPHS", False))
    yield
    _optimize_graphs(False)


@pytest.fixture(autouse=True)
def same_precision():
    """Restores the global precision, which programs in this process may change."""
    import keras

    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture(autouse=True, scope="module")
def generators_of_file(request):
    """Returns the random generators of a file with their states after the file was imported."""
    found = vars(request.module).values()
    return [
        (each, each.bit_generator.state) for each in found if isinstance(each, np.random.Generator)
    ]


@pytest.fixture(autouse=True)
def same_draws(generators_of_file):
    """Restores a file's generators, so that draws of a test don't depend on earlier tests."""
    for generator, state in generators_of_file:
        generator.bit_generator.state = state


@pytest.fixture
def said_in_pictures(monkeypatch):
    """Returns a dict from the names of pictures that are drawn to their texts, each in one line."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    said, draw = {}, Figure.savefig

    def save(figure, path, **options):
        texts = (text.get_text() for text in figure.findobj(Text))
        said[path.name.split(".", 2)[2]] = " ".join(" ".join(texts).split())
        draw(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", save)
    return said


@pytest.fixture
def two_devices():
    """The names of two virtual CPU devices, for tests of mirrored training on one machine."""
    return ["CPU:0", "CPU:1"]


@pytest.fixture
def strategy_of():
    """Returns a function from 1, 2 or 4 to a `tf.distribute` strategy of as many devices."""
    import tensorflow as tf

    def strategy(count):
        if count == 1:
            return tf.distribute.get_strategy()
        return tf.distribute.MirroredStrategy(
            [f"CPU:{i}" for i in range(count)],
            cross_device_ops=tf.distribute.ReductionToOneDevice(),
        )

    return strategy


@pytest.fixture
def asset():
    """Returns a function from a file name to its path in $THESIS_ASSETS; skips if it is missing."""

    def find(name):
        path = ASSETS / name
        if not path.exists():
            pytest.skip(f"{name} is not in {ASSETS} (set THESIS_ASSETS to the folder that has it)")
        return path

    return find


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisServer:
    """A `redis-server` that keeps nothing on disk; settings are as on its command line."""

    def __init__(self, folder, *settings, port_setting="--port"):
        self.port = free_port()
        self.process = None
        # A free cluster port, since the default, the port plus 10,000, may be taken.
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
        """Ends the server like a crash; its data are lost."""
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(how)
        self.process.wait()
        self.process.stdout.close()

    def restart(self):
        """Crashes the server and starts it again, empty."""
        self.stop()
        self.start()

    def cli(self, *arguments):
        """Runs redis-cli with the server."""
        done = subprocess.run(
            ["redis-cli", "-p", str(self.port), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()


@contextlib.contextmanager
def stopped_at_the_end(make):
    """Yields `make`, a function that starts servers, and stops those that still run at the end."""
    servers = []

    def start(*settings, **kwargs):
        servers.append(make(*settings, **kwargs))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="session")
def redis_factory(tmp_path_factory):
    """Returns a function that starts a `RedisServer`; all are stopped at the end of the session."""
    if SERVER is None:
        pytest.skip("redis-server is not on the PATH")
    pytest.importorskip("redis")

    def make(*settings, **kwargs):
        return RedisServer(tmp_path_factory.mktemp("redis"), *settings, **kwargs)

    with stopped_at_the_end(make) as start:
        yield start


@pytest.fixture
def start_redis(redis_factory):
    """Returns a function that starts a `RedisServer`, which the test may stop and restart."""
    with stopped_at_the_end(redis_factory) as start:
        yield start


@pytest.fixture
def redis_server(start_redis):
    """A `RedisServer` for one test, which may stop and restart it."""
    return start_redis()


@pytest.fixture(scope="session")
def shared_redis(redis_factory):
    """A `RedisServer` that keeps running, for tests that use a separate run id."""
    return redis_factory()


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A folder with two authorities, `ca` and `other`, and certificates that `ca` has signed."""
    folder = tmp_path_factory.mktemp("tls")
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        files = ("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt")
        openssl(*new, *files, "-subj", f"/CN={name}")
    files = ("-keyout", folder / "redis.key", "-out", folder / "redis.crt")
    openssl(
        *new, *files, "-subj", "/CN=redis", "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key",
        "-addext", "subjectAltName=IP:127.0.0.1",
    )  # fmt: skip
    return folder


@pytest.fixture
def tls_server(start_redis, certificates):
    """A `RedisServer` that only accepts TLS, and requires a certificate signed by `ca`."""
    settings = [
        f"--tls-{name}-file {certificates / file}".split()
        for name, file in (("cert", "redis.crt"), ("key", "redis.key"), ("ca-cert", "ca.crt"))
    ]
    try:
        return start_redis("--port", 0, *itertools.chain(*settings), port_setting="--tls-port")
    except AssertionError as error:
        if "Bad directive" not in str(error):
            raise
        pytest.skip("this redis-server was built without TLS")
