"""An interrupt is lost in code that swallows it, and comes again until the block ends."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

from bin.common import interrupts


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(interrupts, "_AGAIN", 0.05)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


class Ignored:
    """Python reports exceptions in `__del__`, and goes on."""

    def __del__(self):
        interrupt()


class Caught:
    def __del__(self):
        with contextlib.suppress(BaseException):
            interrupt()


class Kept:
    pass


def by_a_weak_reference():
    kept = Kept()
    reference = weakref.ref(kept, lambda _: interrupt())
    del kept
    return reference


def by_except():
    with contextlib.suppress(BaseException):
        interrupt()


def by_cleaning_up():
    try:
        raise ValueError
    except ValueError:
        Ignored()


SWALLOWED = {
    "__del__": lambda: Ignored() and None,
    "__del__ that catches all": lambda: Caught() and None,
    "weak reference": by_a_weak_reference,
    "bare except": by_except,
    "while another error is handled": by_cleaning_up,
}


def ends_with_an_interrupt(work):
    with interrupts.never_lost():
        work()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", SWALLOWED)
def test_an_interrupt_that_was_swallowed_comes_again(how):
    def work():
        SWALLOWED[how]()
        for _ in range(500):
            time.sleep(0.01)
        raise AssertionError("never interrupted")

    with pytest.raises(KeyboardInterrupt) as raised:
        ends_with_an_interrupt(work)
    assert not isinstance(raised.value.__context__, AssertionError)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize("error", [None, ValueError("other"), SystemExit(3)])
def test_the_end_of_the_work_does_not_hide_it(error):
    def work():
        by_except()
        if error:
            raise error

    with pytest.raises(KeyboardInterrupt):
        ends_with_an_interrupt(work)


def test_cleaning_up_is_not_interrupted_again():
    done = []

    def work():
        try:
            interrupt()
        finally:
            time.sleep(0.3)
            with contextlib.suppress(ZeroDivisionError):
                done.append(1 / 0)
            time.sleep(0.3)
            done.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        ends_with_an_interrupt(work)
    assert done == ["cleaned up"]


def test_a_second_interrupt_ends_cleaning_up():
    done = []

    def work():
        try:
            interrupt()
        finally:
            interrupt()
            done.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        ends_with_an_interrupt(work)
    assert not done


def test_without_an_interrupt_nothing_changes():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)]
    with interrupts.never_lost():
        pass
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGALRM)] == before


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_other_handlers_are_kept(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with interrupts.never_lost():
            assert signal.getsignal(signal.SIGINT) is handler
            interrupt()
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_do_without():
    found = []

    def work():
        with interrupts.never_lost():
            found.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [1]


PROGRAM = """
import os, signal, time
from bin.common import ends
class Ignored:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
def main(argv):
    with ends.clean_errors(argv):
        Ignored()
        time.sleep(20)
ends.start(main)
"""


def test_a_program_ends_with_130():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert "Interrupted. The same command continues the run." in done.stderr
