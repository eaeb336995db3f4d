import os
import signal

import pytest

from bin.jobs.issgd import signals


def stop_by(number, before):
    with signals.stopping() as is_asked:
        assert not is_asked()
        os.kill(os.getpid(), number)
        assert is_asked()
        assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_handlers_come_back(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        stop_by(number, before)
    assert signal.getsignal(number) == before


def test_without_a_signal_nothing_is_raised():
    before = signal.getsignal(signal.SIGINT)
    with signals.stopping() as is_asked:
        pass
    assert not is_asked()
    assert signal.getsignal(signal.SIGINT) == before
