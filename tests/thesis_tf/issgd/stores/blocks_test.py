import numpy as np
import pytest

from thesis_tf.issgd.stores import StoreError, blocks

TAG, OTHER = "00000000000000ff", "fedcba9876543210"


def record(tag, version, values):
    return (
        blocks.header(tag, version=version, worker=3, loss=0.5, error=0.25, time=9.0)
        + np.asarray(values, "<f4").tobytes()
    )


def test_the_layout():
    assert blocks.HEADER.itemsize == 48
    assert blocks.record_bytes(2048) == 48 + 4 * 2048
    assert blocks.header(TAG)[:8] == b"ISSGDv01"
    assert blocks.header(TAG, time=9.0)[-blocks.TIME_BYTES :] == np.array(9.0, "<f8").tobytes()
    header = blocks.header(TAG, version=77)
    assert header[:16] == blocks.header(TAG)[:16] != blocks.header(OTHER)[:16]
    assert header[16:24] == np.array(77, "<i8").tobytes()


def test_foreign_and_empty_records_were_never_measured():
    data = b"".join(
        [
            record(TAG, 7, [1, 2, 3]),
            record(OTHER, 8, [4, 5, 6]),
            bytes(blocks.record_bytes(3)),
            blocks.blank(TAG, 3, 1),
            record(TAG, 9, [7, np.nan, np.nan]),
        ]
    )

    found = blocks.decode(np.frombuffer(data, np.uint8), TAG, np.zeros(13, np.float32), 3, 10.0)

    expected = np.full(13, np.nan, np.float32)
    expected[:3], expected[12] = (1, 2, 3), 7
    np.testing.assert_array_equal(found.values, expected)
    assert found.versions.tolist() == [7, -1, -1, -1, 9]
    assert found.workers.tolist() == [3, 0, 0, 0, 3]
    np.testing.assert_array_equal(found.times, [9, np.nan, np.nan, np.nan, 9])
    np.testing.assert_array_equal(found.losses, np.float32([0.5, np.nan, np.nan, np.nan, 0.5]))
    assert found.now == 10.0
    headers = [data[at : at + 48] for at in range(0, len(data), blocks.record_bytes(3))]
    assert [blocks.version_of(h, TAG) for h in headers] == [7, None, None, None, 9]


def test_garbage_is_not_taken_for_weights():
    data = bytearray(blocks.blank(TAG, 3, 2))
    data[60] ^= 1
    with pytest.raises(StoreError, match="not records of this format"):
        blocks.decode(data, TAG, np.zeros(6, np.float32), 3, 0.0)
    with pytest.raises(StoreError, match="not records of this format"):
        blocks.version_of(data[60 : 60 + 48], TAG)


def test_workers_are_told_apart():
    hashes = {blocks.worker_hash(f"host:{number}") for number in range(1000)}
    assert len(hashes) == 1000
    assert all(0 < value < 2**64 for value in hashes)
