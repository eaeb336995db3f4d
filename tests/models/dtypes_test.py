import keras
import pytest

from models.dtypes import at_least_float32


@pytest.mark.parametrize(
    ("dtype", "found"),
    [
        ("bfloat16", "float32"),
        ("mixed_float16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
    ],
)
def test_no_less_than_float32(dtype, found):
    assert at_least_float32(dtype) == found
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(dtype)
        assert at_least_float32() == found
    finally:
        keras.config.set_dtype_policy(before)
