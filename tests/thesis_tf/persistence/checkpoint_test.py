import keras
import numpy as np
import pytest

from thesis_tf.persistence import checkpoint


def variables(shapes=((2, 3), (), (4,)), dtypes=("float32", "int64", "bfloat16"), fill=1.37):
    return [
        keras.Variable(np.full(shape, fill), dtype=dtype)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]


def test_values_come_back_to_the_bit_in_their_dtypes(tmp_path):
    path = tmp_path / "new" / "checkpoint.npz"
    saved, restored = variables(), variables(fill=0)
    checkpoint.save(path, saved, arrays={"step": 7, "norms": np.array([np.nan, 1.0], np.float32)})
    arrays = checkpoint.restore(path, restored)
    for a, b in zip(saved, restored, strict=True):
        assert (a.dtype, a.numpy().tobytes()) == (b.dtype, b.numpy().tobytes())
    assert arrays.keys() == {"step", "norms"}
    assert (int(arrays["step"]), arrays["norms"].dtype) == (7, np.float32)
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.npz"]


def test_more_than_ten_variables_keep_their_order(tmp_path):
    checkpoint.save(tmp_path / "a.npz", [keras.Variable(float(i)) for i in range(12)])
    restored = [keras.Variable(0.0) for _ in range(12)]
    assert checkpoint.restore(tmp_path / "a.npz", restored) == {}
    assert [float(v) for v in restored] == list(range(12))


@pytest.mark.parametrize(
    "others",
    [
        variables(((3, 2), (), (4,))),
        variables(dtypes=("float64", "int64", "bfloat16")),
        variables(dtypes=("float32", "float64", "bfloat16")),
        variables()[:2],
        variables() + variables(),
    ],
    ids=["shape", "width", "kind", "fewer", "more"],
)
def test_other_variables_are_left_as_they_are(tmp_path, others):
    checkpoint.save(tmp_path / "a.npz", variables(fill=5))
    with pytest.raises(ValueError, match=r"checkpoint of another model\. Use another folder"):
        checkpoint.restore(tmp_path / "a.npz", others)
    assert all((v.numpy() == np.asarray(1.37, v.numpy().dtype)).all() for v in others)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_was_cut_short(tmp_path, part):
    path = tmp_path / "a.npz"
    checkpoint.save(path, variables())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ValueError, match=r"a\.npz is not a checkpoint, or was cut short"):
        checkpoint.restore(path, variables())


def test_a_byte_that_was_changed_is_found(tmp_path):
    path = tmp_path / "a.npz"
    checkpoint.save(path, [keras.Variable(np.full(1000, 1.0, np.float32))])
    whole = bytearray(path.read_bytes())
    whole[2000] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="is not a checkpoint, or was cut short"):
        checkpoint.restore(path, [keras.Variable(np.zeros(1000, np.float32))])


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", **{"0": np.array([{}], object)})
    with pytest.raises(ValueError, match="is not a checkpoint"):
        checkpoint.restore(tmp_path / "a.npz", variables())


def test_an_error_leaves_the_older_one(tmp_path):
    path = tmp_path / "a.npz"
    checkpoint.save(path, variables())
    older = path.read_bytes()
    with pytest.raises(AttributeError):
        checkpoint.save(path, [*variables(), None])
    assert path.read_bytes() == older
