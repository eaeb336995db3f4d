import numpy as np
import pytest

from thesis_tf.probes.features import shards
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.taps import Tap

COLUMNS = [
    shards.Column(Tap("a/b", (None, 3), "float32", "Dense"), 3, "float32", "000.npy"),
    shards.Column(
        Tap("out", (None, 2), "float64", "Model"), 2, "float64", "001.npy", prediction=True
    ),
]
ROWS = [np.arange(12, dtype=np.float32).reshape(4, 3), np.arange(8, dtype=np.float64).reshape(4, 2)]


def header(**changes):
    return {**shards.make_header(COLUMNS, Reduction(), model="m", data="d"), **changes}


def write(folder):
    with shards.ShardWriter(folder, header()) as writer:
        writer.append([values[:1] for values in ROWS])
        writer.append([values[1:] for values in ROWS])
        writer.finish()


def test_a_finished_shard_is_numpys(tmp_path):
    write(tmp_path)
    for column, values in zip(COLUMNS, ROWS, strict=True):
        np.testing.assert_array_equal(np.load(tmp_path / column.file, allow_pickle=False), values)
        shards.check_header(tmp_path, column, 4)
    manifest = shards.read_manifest(tmp_path)
    assert (manifest["done"], manifest["complete"]) == (4, True)


def test_columns_survive_json():
    assert [shards.Column.from_json(column.to_json()) for column in COLUMNS] == COLUMNS
    assert [column.name for column in COLUMNS] == ["a/b", "prediction:out"]
    assert [column.row_bytes for column in COLUMNS] == [12, 16]


def test_an_empty_batch_changes_nothing(tmp_path):
    with shards.ShardWriter(tmp_path, header()) as writer:
        writer.append([values[:0] for values in ROWS])
        writer.append(ROWS)
        writer.finish()
    np.testing.assert_array_equal(np.load(tmp_path / "000.npy", allow_pickle=False), ROWS[0])


def test_what_is_beyond_the_manifest_is_cut_off(tmp_path):
    with shards.ShardWriter(tmp_path, header()) as writer:
        writer.append([values[:2] for values in ROWS])
        writer.flush()
        writer.append([values[:2] for values in ROWS])  # a kill: not flushed
    with shards.ShardWriter(tmp_path, header()) as writer:
        assert writer.done == 2
        writer.append([values[2:] for values in ROWS])
        writer.finish()
    np.testing.assert_array_equal(np.load(tmp_path / "001.npy", allow_pickle=False), ROWS[1])


@pytest.mark.parametrize(
    ("key", "said"),
    [("model", "another model"), ("data", "another data set"), ("columns", "choice of taps")],
)
def test_another_shard_is_refused(tmp_path, key, said):
    write(tmp_path)
    other = header(**{key: header()["columns"][:1] if key == "columns" else "x"})
    with pytest.raises(ValueError, match=said):
        shards.ShardWriter(tmp_path, other)


def test_damage_is_found(tmp_path):
    write(tmp_path)
    path = tmp_path / "000.npy"
    whole = path.read_bytes()
    checksum = shards.read_manifest(tmp_path)["checksums"]["000.npy"]
    shards.verify_file(tmp_path, COLUMNS[0], 4, checksum)
    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(ValueError, match="is not what was written"):
        shards.verify_file(tmp_path, COLUMNS[0], 4, checksum)
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="was cut short"):
        shards.check_size(tmp_path, COLUMNS[0], 4)
