import numpy as np
import pytest

from thesis_tf._core import checks


def test_invalid_says_what_was_expected_what_came_and_what_to_do():
    error = checks.invalid("`labels`", "integers in [0, 10)", 12, "Subtract the least of them.")

    assert isinstance(error, ValueError)
    assert error.argument == "labels"
    assert str(error) == (
        "`labels` must be integers in [0, 10). Received: 12. Subtract the least of them."
    )
    assert str(checks.invalid("`x`", "an array", None)) == "`x` must be an array. Received: None."
    assert isinstance(checks.invalid("`x`", "an array", None, kind=TypeError), TypeError)
    assert checks.invalid("The data", "finite", "NaN").argument is None


@pytest.mark.parametrize("value", [1, 7, np.int64(7), np.uint8(200), True])
def test_positive_integer(value):
    number = checks.positive_integer("`n`", value)

    assert number == value
    assert type(number) is int


@pytest.mark.parametrize("value", [0, -3, np.int32(0), False])
def test_integers_that_are_not_positive(value):
    with pytest.raises(
        ValueError, match=rf"`n` must be a positive integer. Received: {int(value)}"
    ):
        checks.positive_integer("`n`", value)


@pytest.mark.parametrize("value", [1.0, "3", None, np.float64(2), [1]])
def test_what_is_no_integer(value):
    with pytest.raises(TypeError, match=r"`n` must be a positive integer\. Received: "):
        checks.positive_integer("`n`", value)


def test_one_of():
    assert checks.one_of("`kind`", "mean", ("mean", "last")) == "mean"
    assert checks.one_of("`kind`", "b", (c for c in "abc")) == "b"
    with pytest.raises(ValueError, match=r"`kind` must be one of mean, last\. Received: 'men'"):
        checks.one_of("`kind`", "men", ("mean", "last"))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("dense", ["conv", "dense_1", "dense_2"], "The nearest are: dense_1, dense_2."),
        ("Dense", ["conv", "dense_1"], "The nearest are: dense_1."),
        ("*ense*", ["conv", "dense_1"], "The nearest are: dense_1."),
        ("denze", ["conv", "dense"], "The nearest are: dense."),
        ("qqq", ["conv", "dense"], "There are 2: conv, dense."),
        ("*", ["a", "b"], "There are 2: a, b."),
        ("qqq", list("abcdefg"), "There are 7: a, b, c, d, e, ...."),
        ("x", ["x1"] * 3 + ["x2"], "The nearest are: x1, x2."),
        ("conv", [f"conv_{i}" for i in range(9)],
         "The nearest are: conv_0, conv_1, conv_2, conv_3, conv_4."),
        ("qqq", [], "There are none."),
    ],
)  # fmt: skip
def test_nearest(name, options, expected):
    assert checks.nearest(name, options) == expected


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.25), 1e-300])
def test_positive_number(value):
    number = checks.positive_number("`sigma`", value)

    assert number == value
    assert type(number) is float


@pytest.mark.parametrize("value", [0, -1.5, float("nan"), float("inf")])
def test_numbers_that_are_not_positive(value):
    with pytest.raises(ValueError, match="`sigma` must be a positive number"):
        checks.positive_number("`sigma`", value)


@pytest.mark.parametrize("value", ["a", None, [1, 2]])
def test_what_is_no_number(value):
    with pytest.raises(TypeError, match="`sigma` must be a positive number"):
        checks.positive_number("`sigma`", value)


def test_probability():
    assert checks.probability("`p`", 1) == 1.0
    with pytest.raises(ValueError, match=r"`p` must be in \(0, 1\]\. Received: 1\.5"):
        checks.probability("`p`", 1.5)
