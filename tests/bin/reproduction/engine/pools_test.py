import os
import signal

import pytest

from bin.reproduction.engine import cache, catalogue, contract, pools
from bin.reproduction.engine import task as tasks

(FIGURE,) = catalogue.select(["3.4"])


@pytest.fixture
def task(tmp_path):
    return tasks.Task(FIGURE, "quick", contract.Sources(), 0, tmp_path / "cache", 1)


def wait(pool):
    for _ in range(120):
        if done := pool.finished(1):
            return done
    raise AssertionError("it never ended")


@pytest.mark.slow
def test_a_process_does_the_work_and_only_it_has_the_environment(task):
    before = dict(os.environ)
    pool = pools.LocalPool()
    pool.start(task)
    assert dict(os.environ) == before
    assert wait(pool) == {FIGURE: None}
    assert cache.Cache(task.cache).shown(FIGURE, task.config()).exists()


def test_one_that_dies_says_how(task):
    pool = pools.LocalPool()
    pool.start(task)
    (process, _) = pool._running[FIGURE]
    os.kill(process.pid, signal.SIGSEGV)
    assert wait(pool)[FIGURE].error == "The process was ended by SIGSEGV."


def test_stop_ends_what_runs(task):
    pool = pools.LocalPool()
    pool.start(task)
    (process, _) = pool._running[FIGURE]
    pool.stop()
    assert process.exitcode == -signal.SIGKILL
    assert pool.finished(0) == {}


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer_is_said_at_once(address):
    pytest.importorskip("ray")
    with pytest.raises(ConnectionError, match=f"--ray_address={address}: nothing answers there"):
        pools.RayPool(address)


@pytest.mark.slow
def test_two_machines_of_a_ray_cluster(task, tmp_path):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    try:
        pool = pools.RayPool(cluster.address)
        try:
            pool.start(task)
            assert wait(pool) == {FIGURE: None}
            assert cache.Cache(task.cache).shown(FIGURE, task.config()).exists()
            # Errors in the process are reported here.
            blocked = tmp_path / "file"
            blocked.write_text("")
            pool.start(tasks.Task(FIGURE, "quick", contract.Sources(), 0, blocked, 1))
            assert "NotADirectoryError" in wait(pool)[FIGURE].error
        finally:
            pool.stop()
        assert not ray.is_initialized()
    finally:
        cluster.shutdown()
