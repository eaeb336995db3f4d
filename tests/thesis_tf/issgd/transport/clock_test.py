import time

from thesis_tf.issgd.transport import clock


def test_it_measures_seconds_and_never_goes_back():
    before, wall = clock.now(), time.monotonic()
    time.sleep(0.02)
    assert 0.02 <= clock.now() - before <= time.monotonic() - wall + 0.01
