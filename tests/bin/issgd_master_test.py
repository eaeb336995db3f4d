import json
import os
import signal
import subprocess
import time
import uuid

import pytest

from thesis_tf.issgd.stores import RunNotFoundError, open_store
from thesis_tf.issgd.stores.backends.shm import MEMORY

MASTER, WORKER = "issgd_master", "issgd_worker"
PASSWORD = "s3cret"
AWAY = 20.0  # seconds; a master's claim lasts 15
CHECKPOINT = 64  # steps


def run_id():
    return uuid.uuid4().hex


def pulled(url, name):
    """Returns the blocks of the training examples, None while there is no run."""
    with open_store(url, run_id=name) as store:
        try:
            store.join()
            return store.pull("train")
        except RunNotFoundError:
            return None


def measured(url, name):
    """Returns whether the norms of all training examples are known."""
    blocks = pulled(url, name)
    return blocks is not None and bool((blocks.versions >= 0).all())


@pytest.mark.slow
def test_one_command_with_workers_of_its_own(start_program, records, tmp_path):
    name = run_id()
    said = start_program(
        MASTER, "--local_workers=1", "--mode=exact", "--steps=12", "--sync_every=4",
        f"--run_id={name}", f"--output_dir={tmp_path}",
    ).finish()  # fmt: skip
    assert "Test examples: loss" in said
    assert [record["step"] for record in records(tmp_path)] == [4, 8, 12]
    assert [record["staleness"] for record in records(tmp_path)] == [4, 4, 4]
    assert {
        "config.json", "checkpoint.npz", "logs", "training.png", "gradient_variance.png",
        "model.keras", "metrics.json", "worker_1.log",
    } <= set(os.listdir(tmp_path))  # fmt: skip
    assert json.loads((tmp_path / "metrics.json").read_text())["error"] < 1
    assert places(name) == []  # shared memory has been freed


def places(name):
    """Returns the URLs of the stores of masters with local workers and this run id."""
    prefix = f"thesis_tf-{os.getuid()}-"
    found = [folder.name.removeprefix(prefix) for folder in MEMORY.glob(f"{prefix}{name}-*")]
    return [f"shm://{place}" for place in found]


def alive(url, name):
    """Returns the workers of a run."""
    with open_store(url, run_id=name) as store:
        store.join()
        return store.alive("worker", 60)


def group_is_there(program):
    """Returns whether a program or one of its children is still running."""
    try:
        os.killpg(program.pid, 0)
    except ProcessLookupError:
        return False
    return True


class Running:
    """A master and a worker on a Redis server, which run during all tests of faults."""

    def __init__(self, server, folder, start_program, records):
        self.server, self.folder = server, folder
        self.url, self.run_id = server.url, run_id()
        self._start_program, self._records = start_program, records
        # The worker may start first.
        self.worker = self.start_worker()
        self.worker.until(lambda: "Wait until a master has created it" in self.worker.said)
        self.master = self.start_master(folder)

    def start_master(self, folder):
        return self._start_program(
            MASTER, f"--run_id={self.run_id}", f"--output_dir={folder}", "--steps=1000000",
            "--sync_every=8", f"--checkpoint_every={CHECKPOINT}", "--batch_size=16",
            ISSGD_STORE=self.url,
        )  # fmt: skip

    def start_worker(self):
        return self._start_program(
            WORKER, f"--run_id={self.run_id}", "--lease_seconds=1", ISSGD_STORE=self.url
        )

    def records(self):
        return self._records(self.folder)

    def step(self):
        return max((record["step"] for record in self.records()), default=0)

    def versions(self):
        return pulled(self.url, self.run_id).versions

    def goes_on(self):
        """Waits until the master has taken more steps."""
        goal = self.step() + 32
        self.master.until(lambda: self.step() >= goal)

    def renews(self):
        """Waits until all norms have been measured again and the master draws by them."""
        self.master.until(lambda: pulled(self.url, self.run_id) is not None)
        version = self.versions().max()
        self.master.until(lambda: (self.versions() > version).all())
        step = self.step()
        self.master.until(lambda: any(r["usable"] == 1 for r in self.records() if r["step"] > step))
        assert self.worker.status is None, self.worker.said


@pytest.fixture(scope="module")
def running(redis_factory, tmp_path_factory, start_program, records):
    """A `Running` whose norms are all known; every test leaves it in this state."""
    running = Running(redis_factory(), tmp_path_factory.mktemp("run"), start_program, records)
    running.renews()
    yield running
    for program in (running.master, running.worker):
        program.kill()


@pytest.mark.slow
def test_a_worker_is_killed(running):
    running.worker.kill()
    # As if the worker had been killed while it measured two blocks.
    with open_store(running.url, run_id=running.run_id) as store:
        store.join()
        lost = [store.lease("train", "killed", 1.0) for _ in range(2)]
    version = running.versions().max()
    running.goes_on()
    running.worker = running.start_worker()
    running.master.until(lambda: (running.versions()[lost] > version).all())
    running.renews()


@pytest.mark.slow
def test_the_server_is_killed_and_comes_back_empty(running):
    running.server.stop()
    running.master.until(
        lambda: "The store can't be reached, training continues" in running.master.said
    )
    running.goes_on()
    running.server.start()
    running.master.until(lambda: "it was created again" in running.master.said)
    running.renews()


@pytest.mark.slow
def test_the_server_does_not_answer_for_a_while(running):
    before = running.master.said.count("The store can't be reached")
    running.server.process.send_signal(signal.SIGSTOP)
    end = time.monotonic() + AWAY
    running.master.until(lambda: running.master.said.count("The store can't be reached") > before)
    running.goes_on()
    running.master.until(lambda: time.monotonic() > end)
    running.goes_on()
    running.server.process.send_signal(signal.SIGCONT)
    running.renews()


@pytest.mark.slow
def test_the_master_is_killed(running):
    running.master.until(lambda: running.step() > CHECKPOINT)
    running.master.kill()
    killed = running.records()
    with open_store(running.url, run_id=running.run_id) as store:
        store.join()
        head = store.head()
    running.master = running.start_master(running.folder)
    running.master.until(lambda: running.step() > killed[-1]["step"] + 8)
    now = running.records()
    assert [record["step"] for record in now] == list(range(8, 8 * len(now) + 8, 8))
    kept = [record for record in killed if record in now]
    assert killed[: len(kept)] == kept
    assert killed[-1]["step"] - kept[-1]["step"] <= CHECKPOINT + 8
    # Versions that were published before the kill are not used for other parameters.
    running.master.until(lambda: (running.versions() > head).all())
    running.renews()


@pytest.mark.slow
def test_a_second_master_is_refused(running, tmp_path):
    others = {
        running.start_master(tmp_path): "has had another master",
        running.start_master(running.folder): "another process runs in it",
    }
    for other, message in others.items():
        assert message in other.refuse()
    running.goes_on()


@pytest.mark.slow
def test_interrupted_and_the_same_command_again(start_program, records, tmp_path):
    name = run_id()
    command = [
        MASTER, "--local_workers=1", f"--run_id={name}", f"--output_dir={tmp_path}",
        "--sync_every=8", f"--checkpoint_every={CHECKPOINT}", "--steps=100000",
    ]  # fmt: skip
    first = start_program(*command)
    first.until(lambda: len(records(tmp_path)) > 2 and measured(places(name)[0], name))
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does
    assert first.wait() == 130
    assert "The same command continues" in first.said
    assert "Traceback" not in first.said + (tmp_path / "worker_1.log").read_text()
    assert not group_is_there(first)  # no worker is running
    done = records(tmp_path)
    # The run also continues with more steps.
    second = start_program(*command[:-1], "--steps=200000")
    second.until(lambda: len(records(tmp_path)) > len(done) + 2)
    # No record is lost.
    now = records(tmp_path)
    assert [record["step"] for record in now] == list(range(8, 8 * len(now) + 8, 8))
    assert now[: len(done)] == done
    # Its worker ends with it for any reason.
    second.until(lambda: "local-1" in alive(places(name)[0], name))
    second.kill()
    end = time.monotonic() + 900
    while group_is_there(second):
        assert time.monotonic() < end
        time.sleep(0.05)
    # Its leftovers don't prevent another run in its folder.
    assert places(name) != []
    third = start_program(
        MASTER, "--local_workers=1", f"--run_id={name}", f"--output_dir={tmp_path}", "--overwrite",
        "--model=lenet", "--steps=2",
    )  # fmt: skip
    third.finish()
    assert places(name) == []


@pytest.mark.slow
def test_a_local_worker_that_ends(start_program, records, tmp_path):
    name = run_id()
    master = start_program(
        MASTER, "--local_workers=1", "--mode=exact", f"--run_id={name}", f"--output_dir={tmp_path}",
        "--sync_every=8", "--steps=100000",
    )  # fmt: skip
    master.until(lambda: len(records(tmp_path)) > 1)
    # The worker is the only other process of the group; no file has its pid.
    group = subprocess.run(
        ["pgrep", "-g", str(master.pid)], capture_output=True, text=True, check=True
    )
    (worker,) = {int(pid) for pid in group.stdout.split()} - {master.pid}
    os.kill(worker, signal.SIGKILL)
    assert "all of them ended" in master.refuse()
    assert "Local worker 1 ended (status -9" in master.said
    for url in places(name):
        open_store(url, run_id=name).delete()


@pytest.mark.slow
def test_what_is_refused(start_program, redis_server, tmp_path):
    common = [MASTER, f"--store={redis_server.url}", f"--run_id={run_id()}", "--steps=2"]
    start_program(*common, f"--output_dir={tmp_path / 'a'}").finish()
    # master_test.py tests the other cases that a store rejects.
    line = start_program(*common, "--block_size=32", f"--output_dir={tmp_path / 'b'}").refuse()
    assert "(block_size: 64 there, 32 here)" in line
    assert "choose another run id" in line


@pytest.mark.slow
def test_wrong_password_and_wrong_certificate(
    start_program, start_redis, tls_server, certificates, tmp_path
):
    port = start_redis("--requirepass", PASSWORD).port
    programs = {
        start_program(
            MASTER,
            f"--output_dir={tmp_path / 'a'}",
            ISSGD_STORE=f"redis://:wr0ng@127.0.0.1:{port}/0",
        ): "rejects this user",
        start_program(
            WORKER, ISSGD_STORE=f"redis://:wr0ng@127.0.0.1:{port}/0"
        ): "rejects this user",
        start_program(
            MASTER,
            f"--output_dir={tmp_path / 'b'}",
            ISSGD_STORE=f"rediss://:{PASSWORD}@127.0.0.1:{tls_server.port}/0?ssl_ca_certs={certificates}/other.crt",
        ): "no TLS connection",
        start_program(
            MASTER,
            f"--output_dir={tmp_path / 'c'}",
            ISSGD_STORE="redis://:wr0ng@127.0.0.1:1/0",
        ): "can't be reached",
    }
    for program, message in programs.items():
        assert message in program.refuse()
        assert "wr0ng" not in program.said
        assert PASSWORD not in program.said
    # They end before they write anything, or delete the files of another run with --overwrite.
    for folder in ("a", "b", "c"):
        assert not (tmp_path / folder).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--smoothing=x"], "must be X or relative:X with X >= 0"),
        (["--smoothing=entropy:1"], "entropy:X with X in (0, 1)"),
        (["--run_id=a b"], "1 to 64 letters"),
        (["--mode=uniform", "--local_workers=1"], "Leave out --local_workers: --mode=uniform"),
        (["--distribution=multi_worker"], "--distribution=none or mirrored"),
        (["--optimizer=adam", "--momentum=.9"], "--momentum requires --optimizer=sgd"),
        (["--store=http://x"], "must be a URL that begins with shm://, redis://"),
        (["local"], "flags are written --name=value"),
    ],
)
def test_bad_flags_are_one_line(start_program, tmp_path, arguments, message):
    program = start_program(MASTER, f"--output_dir={tmp_path / 'x'}", *arguments)
    assert program.wait() != 0
    assert message in program.said
    assert "Traceback" not in program.said


def test_help_answers_without_tensorflow(help_of):
    shown = help_of(MASTER)
    for flag in ("--local_workers", "--mode", "--store", "--smoothing", "--steps", "--model"):
        assert f"  {flag}" in shown
