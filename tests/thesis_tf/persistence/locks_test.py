import pytest

from thesis_tf.persistence import locks

OPTIMIZED_GRAPHS = True

HOLDER = """
import sys
from thesis_tf.persistence import locks
file = locks.acquire(sys.argv[1], wait=False)
print("held", flush=True)
import time; time.sleep(60)
"""


def test_a_lock_is_held_by_one_and_given_back(tmp_path):
    path = tmp_path / "folder/lock"
    with locks.locked(path, wait=False) as file:
        file.write("mine")
        with pytest.raises(locks.LockedError, match="Another process holds the lock"):
            locks.acquire(path, wait=False)
    with locks.locked(path, wait=True) as file:
        file.seek(0)
        assert file.read() == "mine"


def test_a_lock_goes_with_its_process(tmp_path, start_python):
    path = tmp_path / "lock"
    holder = start_python(HOLDER, path)
    assert holder.stdout.readline().strip() in ("held", b"held")
    with pytest.raises(locks.LockedError):
        locks.acquire(path, wait=False)
    holder.kill()
    holder.wait()
    locks.acquire(path, wait=False).close()
