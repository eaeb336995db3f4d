import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.issgd.training.examples import Examples, by_split

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(100, 3)), rng.integers(0, 5, 100)


class Rows:
    """Returns rows for arrays of their numbers, and supports nothing else."""

    def __init__(self, array):
        self.array, self.taken = array, []

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        assert isinstance(rows, np.ndarray)
        assert rows.dtype.kind == "i"
        self.taken.append(len(rows))
        return self.array[rows]


def memory_map(array, folder):
    np.save(folder / "rows.npy", array)
    return np.load(folder / "rows.npy", mmap_mode="r", allow_pickle=False)


KINDS = {
    "array": lambda array, folder: array,
    "list": lambda array, folder: array.tolist(),
    "tuple": lambda array, folder: tuple(array.tolist()),
    "tensor": lambda array, folder: tf.constant(array),
    "memory map": memory_map,
    "object": lambda array, folder: Rows(array),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "rows", [np.array([3, 99, 3, 0]), slice(90, 200), slice(0, 1), slice(None, None, 40)], ids=str
)
def test_rows_of_every_kind_of_examples(tmp_path, kind, rows):
    examples = Examples(KINDS[kind](X, tmp_path), KINDS[kind](Y, tmp_path) if kind != "memory map"
                        else Y)  # fmt: skip
    assert len(examples) == 100
    x, y = examples.take(rows)
    np.testing.assert_array_equal(x, X[rows])
    np.testing.assert_array_equal(y, Y[rows])


@pytest.mark.parametrize("rows", [np.array([3, 99, 3]), slice(90, 200)], ids=str)
def test_several_inputs(rows):
    examples = Examples({"a": X, "b": (tf.constant(Y), Rows(X))}, [Y, Y.copy()])
    assert len(examples) == 100
    x, (y, again) = examples.take(rows)
    np.testing.assert_array_equal(x["a"], X[rows])
    np.testing.assert_array_equal(x["b"][0], Y[rows])
    np.testing.assert_array_equal(x["b"][1], X[rows])
    np.testing.assert_array_equal(y, Y[rows])
    np.testing.assert_array_equal(again, Y[rows])
    other = Examples({"a": X + 1, "b": (Y, X)}, Y)
    assert examples.fingerprint() != other.fingerprint()


def test_a_memory_map_stays_one(tmp_path):
    examples = Examples(memory_map(X, tmp_path), Y)
    assert isinstance(examples.x, np.memmap)
    assert examples.fingerprint() == Examples(X, Y).fingerprint()


def test_a_fingerprint_tells_data_apart():
    others = [(X, Y), (X + 1e-9, Y), (X, (Y + 1) % 5), (X.astype(np.float32), Y), (X[:99], Y[:99])]
    prints = [Examples(x, y).fingerprint() for x, y in others]
    assert len(set(prints)) == len(others)
    assert Examples(X.copy(), Y.tolist()).fingerprint() == prints[0]


def test_of_an_object_spaced_rows_are_looked_at(monkeypatch):
    monkeypatch.setattr("thesis_tf.issgd.training.examples._HASHED", 12)
    x = Rows(X)
    fingerprint = Examples(x, Y).fingerprint()
    assert x.taken == [12]
    seen = []
    for row in range(len(X)):
        changed = X.copy()
        changed[row] += 1
        if Examples(Rows(changed), Y).fingerprint() != fingerprint:
            seen.append(row)
    assert seen == list(range(0, 100, 9))  # 100 rows, the last is 99
    assert Examples(Rows(X), np.roll(Y, 1)).fingerprint() != fingerprint
    assert Examples(Rows(X[:9]), Rows(Y[:9])).fingerprint() != fingerprint


def test_data_by_split():
    whole = Examples(X, Y)
    data = by_split({"train": whole, "validation": (X[:3], Y[:3]), "test": None})
    assert list(data) == ["train", "validation"]
    assert data["train"] is whole
    assert len(data["validation"]) == 3


@pytest.mark.parametrize(
    ("x", "y", "kind", "message"),
    [
        (X, Y[:-1], ValueError, r"`x` and `y` must be of one length, above 0. Received: 100, 99"),
        ([], [], ValueError, r"of one length, above 0. Received: 0, 0"),
        (
            3,
            Y,
            TypeError,
            r"`x` must be an array, or an object with a length and rows, or a dict .* Received: 3",
        ),
        ({"a": X, "b": 3}, Y, TypeError, r"`x`\['b'\] must be an array"),
        ({"a": X, "b": X[:99]}, Y, ValueError, r"Received: 100, 99, 100"),
        ({}, {}, ValueError, r"Received: nothing"),
        (X, iter(Y), TypeError, r"`y` must be an array, or an object with a length and rows"),
    ],
)
def test_bad_examples(x, y, kind, message):
    with pytest.raises(kind, match=message):
        Examples(x, y)


@pytest.mark.parametrize("data", [{"test": (X, Y)}, (X, Y), None])
def test_bad_data(data):
    with pytest.raises(ValueError, match=r'`data` must be a dict from split .* that has "train"'):
        by_split(data)
