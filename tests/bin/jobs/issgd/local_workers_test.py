import os
import subprocess
import sys

import pytest

from bin.jobs.issgd import local_workers
from thesis_tf.reporting import progress


@pytest.fixture
def said(monkeypatch):
    """Replaces workers by processes that run some code; returns the logged lines."""
    lines = []
    monkeypatch.setattr(progress, "say", lines.append)
    return lines


def running(code, monkeypatch):
    def start(self, number, file):
        return subprocess.Popen([sys.executable, "-c", code], stdout=file, stderr=file)

    monkeypatch.setattr(local_workers.LocalWorkers, "_start", start)


def test_workers_end_with_the_block(said, monkeypatch, tmp_path):
    running("import time; time.sleep(600)", monkeypatch)
    with local_workers.LocalWorkers(2, tmp_path, "shm://x") as workers:
        assert workers.any_left()
        processes = list(workers._workers)
    assert all(process.returncode is not None for process in processes)
    assert said == []


def test_one_that_ends_is_told_of_once_with_its_last_line(said, monkeypatch, tmp_path):
    running("print('first'); print('last'); raise SystemExit(3)", monkeypatch)
    with local_workers.LocalWorkers(1, tmp_path, "shm://x") as workers:
        workers._workers[0].wait(900)
        assert not workers.any_left()
        assert not workers.any_left()
    (line,) = said
    assert line.startswith("Local worker 1 ended (status 3")
    assert line.endswith(": last")


def test_none_are_none(tmp_path):
    with local_workers.LocalWorkers(0, tmp_path, "shm://x") as workers:
        assert not workers.any_left()


def test_a_worker_has_the_given_flags_and_the_url_in_its_environment(said, monkeypatch, tmp_path):
    started = []

    def popen(command, *, env, **_):
        started.append((command, env))

    monkeypatch.setattr(subprocess, "Popen", popen)
    workers = local_workers.LocalWorkers(2, tmp_path, "redis://:s3cret@h", ["--examples=9,9,9"])
    workers._start(2, None)
    ((command, environment),) = started
    assert command[-3:] == ["--examples=9,9,9", "--worker_name=local-2", f"--parent={os.getpid()}"]
    assert environment["ISSGD_STORE"] == "redis://:s3cret@h"
    assert not any("s3cret" in argument for argument in command)
