import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.probes import reductions
from thesis_tf.probes.reductions import KINDS, Reduction
from thesis_tf.probes.taps import Tap

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(5, 4, 3, 6)).astype(np.float32)
SEQUENCE = RNG.normal(size=(5, 7, 3)).astype(np.float32)
# The true steps of each example: at both ends, with a gap, all, and none.
MASK = np.array(
    [
        [1, 1, 1, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 1],
        [1, 0, 0, 1, 0, 1, 0],
        [1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0],
    ],
    bool,
)


def reduce(kind, values, name="tap", mask=None, **kwargs):
    tensor = tf.convert_to_tensor(values)
    return Reduction.parse(kind, **kwargs)(tensor, name, mask=mask).numpy()


def tap(*shape, dtype="float32"):
    return Tap("tap", (None, *shape), dtype, "Layer")


def test_mean():
    expected = IMAGE.astype(np.float64).mean((1, 2))

    np.testing.assert_allclose(reduce("mean", IMAGE), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        reduce("mean", SEQUENCE), SEQUENCE.astype(np.float64).mean(1), rtol=1e-5, atol=1e-6
    )


def test_flatten():
    np.testing.assert_array_equal(reduce("flatten", IMAGE), IMAGE.reshape(5, -1))


def test_last():
    np.testing.assert_array_equal(reduce("last", SEQUENCE), SEQUENCE[:, -1])
    np.testing.assert_array_equal(reduce("last", IMAGE), IMAGE[:, -1].reshape(5, -1))


def test_time_mean():
    expected = IMAGE.astype(np.float64).mean(1).reshape(5, -1)

    np.testing.assert_allclose(reduce("time_mean", IMAGE), expected, rtol=1e-5, atol=1e-6)


def test_masked_mean():
    values = SEQUENCE.astype(np.float64)
    expected = np.stack(
        [
            steps[mask].mean(0) if mask.any() else np.zeros(3)
            for steps, mask in zip(values, MASK, strict=True)
        ]
    )

    for kind in ("mean", "time_mean"):
        np.testing.assert_allclose(
            reduce(kind, SEQUENCE, mask=MASK), expected, rtol=1e-5, atol=1e-6
        )
    # Values at masked steps are never used.
    spoilt = np.where(MASK[..., np.newaxis], SEQUENCE, np.float32(np.nan))
    np.testing.assert_allclose(reduce("mean", spoilt, mask=MASK), expected, rtol=1e-5, atol=1e-6)


def test_masked_mean_of_images_over_time():
    video = RNG.normal(size=(5, 7, 2, 2, 3))
    expected = np.stack(
        [
            frames[mask].mean((0, 1, 2)) if mask.any() else np.zeros(3)
            for frames, mask in zip(video, MASK, strict=True)
        ]
    )

    np.testing.assert_allclose(reduce("mean", video, mask=MASK), expected, rtol=1e-12, atol=1e-12)


def test_masked_last():
    last = [2, 6, 5, 6]
    expected = np.concatenate([SEQUENCE[np.arange(4), last], np.zeros((1, 3))])

    np.testing.assert_array_equal(reduce("last", SEQUENCE, mask=MASK), expected)
    spoilt = np.where(MASK[..., np.newaxis], SEQUENCE, np.float32(np.nan))
    np.testing.assert_array_equal(reduce("last", spoilt, mask=MASK), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_kept(kind):
    vectors = RNG.normal(size=(5, 6)).astype(np.float32)
    if KINDS[kind].least_rank > 1:
        with pytest.raises(ValueError, match=rf"`reduction` '{kind}'.*\(batch, time, ...\)"):
            Reduction(kind).features(tap(6))
    else:
        # A mask of examples, which is not over time, has no effect.
        np.testing.assert_array_equal(reduce(kind, vectors, mask=np.zeros(5, bool)), vectors)


def test_numbers_become_columns():
    numbers = np.arange(5.0)

    np.testing.assert_array_equal(reduce("mean", numbers), numbers[:, np.newaxis])
    assert Reduction("mean").features(tap()) == 1


def test_subset_takes_distinct_coordinates_in_order():
    flat = np.arange(72, dtype=np.float32).reshape(1, 4, 3, 6) + 100 * np.arange(5).reshape(
        5, 1, 1, 1
    ).astype(np.float32)

    values = reduce("subset:20", flat)

    chosen = values[0].astype(int)
    assert values.shape == (5, 20)
    assert (np.diff(chosen) > 0).all()
    assert set(chosen) <= set(range(72))
    np.testing.assert_array_equal(values, chosen + 100 * np.arange(5)[:, np.newaxis])


@pytest.mark.parametrize("kind", ["subset", "projection"])
def test_where_there_are_no_more_than_size_all_are_kept(kind):
    np.testing.assert_array_equal(reduce(f"{kind}:72", IMAGE), IMAGE.reshape(5, -1))
    np.testing.assert_array_equal(reduce(f"{kind}:99", IMAGE), IMAGE.reshape(5, -1))


@pytest.mark.parametrize("kind", ["subset:20", "projection:20"])
def test_random_reductions_are_drawn_from_the_seed_and_the_name(kind):
    same = [reduce(kind, IMAGE, name="conv", seed=3) for _ in range(2)]

    np.testing.assert_array_equal(*same)
    assert (reduce(kind, IMAGE, name="conv", seed=4) != same[0]).any()
    assert (reduce(kind, IMAGE, name="conv#2", seed=3) != same[0]).any()


def test_projection_is_a_signed_sum_of_disjoint_groups():
    # The image of each unit vector is a column of the matrix, from 70 values to 16 groups.
    matrix = reduce("projection:16", np.eye(70))

    assert set(np.unique(matrix)) == {-1.0, 0.0, 1.0}
    np.testing.assert_array_equal(np.count_nonzero(matrix, axis=1), 1)
    assert set(np.count_nonzero(matrix, axis=0)) == {4, 5}
    x = RNG.normal(size=(3, 70))
    np.testing.assert_allclose(reduce("projection:16", x), x @ matrix, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_projection_keeps_inner_products_in_expectation():
    # The error is a sum of s_i s_j x_i y_j over pairs i != j in the same group; its variance is at
    # most 2 p |x|^2 |y|^2, with p = (b - 1) / (n - 1) and groups of b.
    n, size, seeds = 60, 15, 2000
    x, y = RNG.normal(size=(2, n))
    pair = np.stack([x, y])
    products = []
    for seed in range(seeds):
        u, v = reduce(f"projection:{size}", pair, seed=seed)
        products.append((u @ v, u @ u))
    p = (n // size - 1) / (n - 1)
    deviation = np.sqrt(2 * p / seeds)

    mean = np.mean(products, axis=0)

    assert abs(mean[0] - x @ y) <= 5 * deviation * np.linalg.norm(x) * np.linalg.norm(y)
    assert abs(mean[1] - x @ x) <= 5 * deviation * (x @ x)


@pytest.mark.parametrize("kind", [*KINDS, "subset:7", "projection:7"])
@pytest.mark.parametrize("shape", [(), (6,), (7, 3), (4, 3, 6), (2, 3, 4, 5)])
def test_features_are_as_many_as_announced(kind, shape):
    reduction = Reduction.parse(kind)
    if len(shape) < KINDS[reduction.kind].least_rank:
        with pytest.raises(ValueError, match=r"must be \(batch, time, ...\)"):
            reduction.features(tap(*shape))
        return

    assert reduce(kind, np.zeros((5, *shape))).shape == (5, reduction.features(tap(*shape)))


@pytest.mark.parametrize(
    ("kind", "shape", "suits"),
    [
        ("mean", (None, None, 6), True),
        ("mean", (7, None), False),
        ("flatten", (None, 6), False),
        ("subset", (None, 6), False),
        ("projection", (4, None, 6), False),
        ("last", (None, 6), True),
        ("last", (7, None), False),
        ("time_mean", (None, 4, 6), True),
        ("time_mean", (None, None, 6), False),
    ],
)
def test_unknown_sizes(kind, shape, suits):
    reduction = Reduction(kind)
    if not suits:
        with pytest.raises(ValueError, match=rf"`reduction` '{kind}': tap 'tap'.*of a fixed size"):
            reduction.features(tap(*shape))
        return
    run = tf.function(lambda x: reduction(x, "tap")).get_concrete_function(
        tf.TensorSpec((None, *shape))
    )
    known = [size or 5 for size in shape]
    assert run(tf.zeros((2, *known))).shape == (2, reduction.features(tap(*shape)))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float64", "float64"),
        ("float32", "float32"),
        ("float16", "float32"),
        ("bfloat16", "float32"),
        ("int32", "float32"),
        ("uint8", "float32"),
    ],
)
@pytest.mark.parametrize("kind", ["mean", "subset:5", "projection:5", "flatten"])
def test_dtypes(kind, dtype, expected):
    assert reduce(kind, tf.cast(np.ones((2, 4, 3)), dtype)).dtype == expected


def test_low_precision_is_summed_in_float32():
    # In bfloat16 a running sum of ones stops at 256, and in float16 one of thousands overflows.
    ones = tf.ones((1, 1000, 2), tf.bfloat16)
    thousands = tf.fill((1, 1000, 2), tf.constant(1000, tf.float16))

    np.testing.assert_array_equal(reduce("mean", ones), [[1.0, 1.0]])
    np.testing.assert_array_equal(reduce("mean", thousands), [[1000.0, 1000.0]])
    np.testing.assert_array_equal(reduce("mean", ones, mask=np.ones((1, 1000), bool)), [[1, 1]])
    eighths = tf.range(1, 1002, dtype=tf.float32)[tf.newaxis] // 8 / 8
    np.testing.assert_array_equal(
        reduce("projection:1", tf.cast(eighths, tf.bfloat16)), reduce("projection:1", eighths)
    )


def test_small_differences_survive_in_float64():
    values = np.full((1, 10, 1), 1 + 1e-12)

    assert reduce("mean", values)[0, 0] - 1 == pytest.approx(1e-12, rel=1e-3)


@pytest.mark.parametrize(
    "text", ["mean", "flatten", "last", "time_mean", "subset:500", "projection:1000"]
)
def test_text_and_back(text):
    assert str(Reduction.parse(text)) == text


def test_parse():
    assert Reduction.parse("subset") == Reduction("subset", size=1000)
    assert Reduction.parse("projection:64", seed=5) == Reduction("projection", size=64, seed=5)
    assert Reduction.parse("mean", seed=5) == Reduction("mean")  # nothing is drawn
    given = Reduction("subset", size=7, seed=3)
    assert Reduction.parse(given, seed=9) is given


@pytest.mark.parametrize(
    "text",
    ["", "men", "Mean", "mean:5", "flatten:9", "subset:0", "subset:-1", "subset:1.5", "subset:x",
     "subset:²", None, 5],
)  # fmt: skip
def test_bad_text(text):
    with pytest.raises(ValueError, match=r"`reduction`.* must be"):
        Reduction.parse(text)


def test_bad_fields():
    with pytest.raises(ValueError, match=r"`reduction` must be one of mean"):
        Reduction("median")
    with pytest.raises(TypeError, match="size must be a positive integer"):
        Reduction("subset", size=2.5)
    with pytest.raises(ValueError, match="`seed` must be"):
        Reduction("subset", size=5, seed=-1)


def test_another_kind_can_be_registered(monkeypatch):
    def maximum(tensor, mask):
        return tf.reduce_max(tensor, range(1, tensor.shape.rank - 1))

    monkeypatch.setattr(reductions, "KINDS", dict(reductions.KINDS))
    reductions.register("max", shape=lambda shape: shape[-1:], reduce=maximum)
    x = np.random.default_rng(0).normal(size=(5, 4, 3, 2)).astype(np.float32)
    reduction = Reduction.parse("max")
    np.testing.assert_array_equal(reduction(tf.constant(x), "tap"), x.max((1, 2)))
    assert reduction.features(Tap("tap", (None, None, None, 2), "float32", "Conv2D")) == 2
    assert str(reduction) == "max"
    with pytest.raises(ValueError, match="a name, with a size where it takes one"):
        Reduction.parse("max:5")


@pytest.mark.parametrize("kind", ["mean", "flatten", "last", "subset:2"])
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64"])
def test_integers_that_float32_would_round_are_refused(dtype, kind):
    largest = np.full((2, 3, 4), 2**24, dtype)
    assert (reduce(kind, largest) == 2.0**24).all()
    largest[1, 2, 3] += 1
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"at tap 'tap' must be in .*2\^24"):
        reduce(kind, largest)
