import itertools

import numpy as np
import pytest

from thesis_tf._core import seeds


def test_no_two_uses_or_streams_of_a_seed_draw_the_same():
    drawn = [
        seeds.generator(5, use, stream).permutation(50) for use in seeds.USES for stream in range(3)
    ]
    drawn.append(np.random.default_rng(5).permutation(50))

    for one, other in itertools.combinations(drawn, 2):
        assert not np.array_equal(one, other)


def test_a_generator_depends_on_nothing_but_its_arguments():
    one, other = (seeds.generator(5, "take", 1).permutation(50) for _ in range(2))

    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("seed", [0, 7, np.int64(7), 2**70])
def test_integers_are_seeds(seed):
    assert seeds.checked_seed(seed) == int(seed)


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (1.0, TypeError), ("1", TypeError), (None, TypeError)]
)
def test_anything_else_is_not(seed, error):
    with pytest.raises(error, match=r"`seed` must be a non-negative integer\. Received: "):
        seeds.checked_seed(seed)
