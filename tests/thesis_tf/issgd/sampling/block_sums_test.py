import numpy as np
import pytest
import scipy.stats

from thesis_tf.issgd.sampling.block_sums import BLOCK, TOGETHER, BlockSums

SIZES = [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 7 * BLOCK, 10 * BLOCK + 37]


def filled(weights, fill=0.0, constant=0.0):
    weights = np.asarray(weights)
    sums = BlockSums(len(weights))
    sums.write(slice(0, len(weights)), weights, unknown=np.isnan(weights))
    sums.smooth(fill, constant)
    return sums


def inverted(weights, uniforms):
    """The inverse of the plain cumulative distribution."""
    ends = np.cumsum(weights)
    return np.searchsorted(ends, uniforms * ends[-1], side="right")


@pytest.mark.parametrize("size", SIZES)
def test_draws_are_those_of_the_plain_cumulative_sum(size):
    # Sums of integers are exact in float64, in any order.
    rng = np.random.default_rng(size)
    weights = rng.integers(0, 9, size).astype(float)
    weights[rng.random(size) < 0.3] = np.nan
    uniforms = rng.random(2 * TOGETHER + 5)
    sums = filled(weights, fill=4.0, constant=0.5)
    expected = np.where(np.isnan(weights), 4.0, weights) + 0.5
    indices, drawn = sums.draw(uniforms)
    assert indices.dtype == np.int64
    np.testing.assert_array_equal(indices, inverted(expected, uniforms))
    np.testing.assert_array_equal(drawn, expected[indices])
    np.testing.assert_array_equal(sums.smoothed(), expected)
    np.testing.assert_array_equal(sums.weights(), weights)
    assert sums.known == np.isfinite(weights).sum()
    assert sums.total == np.nansum(weights)


@pytest.mark.parametrize("size", SIZES)
def test_frequencies(size):
    rng = np.random.default_rng(size)
    weights = rng.lognormal(sigma=1.5, size=size)
    counts = np.bincount(filled(weights).draw(rng.random(200 * size))[0], minlength=size)
    expected = weights / weights.sum() * counts.sum()
    often = expected >= 5  # where the chi-square distribution is valid; others are combined
    seen, wanted = ([*part[often], part[~often].sum()] for part in (counts, expected))
    if size > 1:
        kept = slice(None) if wanted[-1] > 0 else slice(0, -1)
        assert scipy.stats.chisquare(seen[kept], wanted[kept]).pvalue > 1e-3


def test_every_example_of_600_000_is_reached():
    # Uniforms in the middle of each example's interval; float32 sums would merge some intervals.
    weights = np.random.default_rng(0).lognormal(sigma=2, size=600_000)
    ends = np.cumsum(weights)
    indices, _ = filled(weights).draw((ends - weights / 2) / ends[-1])
    np.testing.assert_array_equal(indices, np.arange(600_000))
    assert len(np.unique(np.cumsum(weights, dtype=np.float32))) < 590_000


@pytest.mark.parametrize("size", [1, BLOCK, 3 * BLOCK + 5])
def test_edges_of_the_unit_interval(size):
    ends = np.array([0.0, np.nextafter(1.0, 0)])
    for weights in (np.full(size, 0.1), np.random.default_rng(1).lognormal(size=size)):
        assert filled(weights).draw(ends)[0].tolist() == [0, size - 1]
        # Examples of weight 0 at both ends are never drawn, nor is anything after the last example.
        padded = np.pad(weights, (BLOCK + 3, 2 * BLOCK + 1))
        assert filled(padded).draw(ends)[0].tolist() == [BLOCK + 3, BLOCK + 2 + size]


@pytest.mark.parametrize("where", [0, 5, BLOCK - 1, BLOCK, 299])
def test_one_weight_of_all(where):
    for weight in (5e-324, 1e-30, 1.0, 1e30, 1e300):
        weights = np.zeros(300)
        weights[where] = weight
        indices, drawn = filled(weights).draw(np.linspace(0, 1, 1000, endpoint=False))
        assert (indices == where).all()
        assert (drawn == weight).all()


def test_sixty_orders_of_magnitude():
    rng = np.random.default_rng(2)
    weights = 10.0 ** rng.uniform(-30, 30, 1000)
    weights[rng.random(1000) < 0.5] = 0
    uniforms = np.concatenate([rng.random(20_000), [0.0, 1e-300, np.nextafter(1, 0)]])
    indices, drawn = filled(weights).draw(uniforms)
    assert (drawn > 0).all()
    np.testing.assert_array_equal(drawn, weights[indices])
    assert (indices != inverted(weights, uniforms)).mean() < 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_any_sequence_of_writes_comes_to_the_same_sums_to_the_last_bit(seed):
    rng = np.random.default_rng(seed)
    size = 20 * BLOCK + 11
    weights = rng.lognormal(size=size)
    sums = filled(weights)
    for _ in range(30):
        start, stop = np.sort(rng.choice(size + 1, 2, replace=False))
        where = slice(start, stop)
        if rng.random() < 0.5:
            where = rng.permutation(size)[: rng.integers(1, 200)]
        new = rng.lognormal(size=len(weights[where]))
        new[rng.random(len(new)) < 0.1] = np.nan
        weights[where] = new
        sums.write(where, new, unknown=np.isnan(new))
    once = filled(weights)
    assert (sums.total, sums.known) == (once.total, once.known)
    assert sums.smooth(0.7, 0.1) == once.smooth(0.7, 0.1)
    np.testing.assert_array_equal(sums._sums, once._sums)
    uniforms = rng.random(1000)
    np.testing.assert_array_equal(sums.draw(uniforms), once.draw(uniforms))


def test_nothing_past_the_end_is_drawn():
    # Rounding can put the last target above the cumulative sum of the last block's weights.
    for size in range(1, 3 * BLOCK):
        weights = np.random.default_rng(size).lognormal(size=size)
        sums = filled(weights, constant=0.1)
        assert sums.draw(np.array([np.nextafter(1.0, 0)]))[0] == size - 1
