import numpy as np
import pytest

from thesis_tf.issgd.stores import StoreError, parameters


def chunk(size=1 << 20):
    return np.random.default_rng(0).integers(0, 256, size, np.uint8)


def mix(values):
    values[values.size // 2 :] = values[::-1][values.size // 2 :]


def swap_pages(values):
    values[:4096], values[4096:8192] = values[4096:8192].copy(), values[:4096].copy()


HARM = {
    "a bit": lambda v: v.__setitem__(5000, v[5000] ^ 1),
    "the last bit": lambda v: v.__setitem__(-1, v[-1] ^ 128),
    "zeroed": lambda v: v.fill(0),
    "a zeroed end": lambda v: v[-10:].fill(0),
    "a zeroed page": lambda v: v[4096:8192].fill(0),
    "mixed": mix,
    "pages swapped": swap_pages,
    "shifted": lambda v: v.__setitem__(slice(None), np.roll(v, 8)),
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
@pytest.mark.parametrize("size", [1 << 20, 10_000, (1 << 20) + 3])
def test_harm_changes_the_checksum(harm, size):
    values = chunk(size)
    before = parameters.checksum(values)
    harm(values)
    assert parameters.checksum(values) != before


def test_a_cut_changes_the_checksum():
    values = chunk(10_000)
    sums = {parameters.checksum(values[:size]) for size in range(10_001)}
    assert len(sums) == 10_001


def test_chunks_are_views_of_all():
    values = chunk((1 << 21) + 5)
    chunks = parameters.split_chunks(values)
    assert [len(c) for c in chunks] == [1 << 20, 1 << 20, 5]
    assert all(np.shares_memory(c, values) for c in chunks)


def test_a_head_both_ways():
    head = parameters.Head.of(7, [1, 2**32 - 1])
    after = parameters.Head.of(7, [3]).after(head)

    assert parameters.Head.from_json(head.to_json()) == head
    assert after.previous == head.stamp
    assert after.stamp != head.stamp
    with pytest.raises(StoreError, match="invalid head"):
        parameters.Head.from_json("{}")
