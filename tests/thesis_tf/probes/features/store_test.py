import itertools

import numpy as np
import pytest

from thesis_tf.persistence import files, fingerprint
from thesis_tf.probes.features.shards import Column, ShardWriter, make_header, shard_name
from thesis_tf.probes.features.store import FeatureStore
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.taps import Tap

RNG = np.random.default_rng(0)
COLUMNS = [
    Column(Tap("conv", (None, 8, 8, 5), "bfloat16", "Conv2D"), 5, "float32", "000.npy"),
    Column(Tap("dense#2", (None, 3), "float64", "Dense"), 3, "float64", "001.npy"),
    Column(Tap("output", (None, 2), "float32", "Model"), 2, "float32", "002.npy", prediction=True),
]
MADE_FROM = {"model": "a model", "data": "a data set"}
HEADER = make_header(COLUMNS, Reduction(), **MADE_FROM, edges=[("conv", "dense#2")])


def table(examples, columns=COLUMNS):
    """Returns features of every column; all rows are different."""
    return [RNG.normal(size=(examples, c.features)).astype(c.dtype) for c in columns]


def write(folder, rows, pieces=3, header=HEADER):
    """Writes one shard in several pieces, each of them durable."""
    with ShardWriter(folder, header) as writer:
        for part in zip(*(np.array_split(values, pieces) for values in rows), strict=True):
            writer.append(part)
            writer.flush()
        writer.finish()


def write_store(folder, rows, sizes):
    """Writes a store whose shards have the given numbers of examples."""
    ends = np.cumsum([0, *sizes])
    for index, (first, stop) in enumerate(itertools.pairwise(ends)):
        write(folder / shard_name(index, len(sizes)), [values[first:stop] for values in rows])


def edit(shard, **changes):
    """Changes a manifest, and updates its digest."""
    manifest = {**files.read_json(shard / "manifest.json"), **changes}
    manifest.pop("digest")
    manifest["digest"] = fingerprint.of_json(manifest)
    files.write_json(shard / "manifest.json", manifest)


@pytest.fixture(params=[[23], [7, 1, 0, 15], [0, 23]], ids=["1 shard", "4 shards", "2 shards"])
def stored(request, tmp_path):
    """Returns a store and the arrays that were written to it."""
    rows = table(23)
    write_store(tmp_path, rows, request.param)
    return FeatureStore(tmp_path), dict(
        zip(["conv", "dense#2", "prediction:output"], rows, strict=True)
    )


def test_what_the_store_says_of_itself(stored):
    store, _ = stored

    assert store.examples == 23
    assert store.taps == [COLUMNS[0].tap, COLUMNS[1].tap]
    assert store.predictions == ["prediction:output"]
    assert store.edges == [("conv", "dense#2")]
    assert store.reduction == Reduction("mean")
    assert (store.model, store.data) == ("a model", "a data set")
    assert [store.features(name) for name in ("conv", "dense#2", "prediction:output")] == [5, 3, 2]
    assert [store.dtype(name) for name in ("conv", "dense#2")] == [np.float32, np.float64]


def test_numpy_reads_the_files(stored):
    store, rows = stored

    for column, values in zip(COLUMNS, rows.values(), strict=True):
        parts_on_disk = sorted(store.folder.glob(f"*/{column.file}"))
        parts = [np.load(file, allow_pickle=False) for file in parts_on_disk]
        np.testing.assert_array_equal(np.concatenate(parts), values)
        assert all(part.dtype == values.dtype for part in parts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "rows",
    [
        slice(None),
        slice(3, 9),
        slice(6, 8),
        slice(-5, None),
        slice(5, 99),
        slice(9, 9),
        slice(9, 3),
        slice(1, 20, 4),
        slice(None, None, -1),
        slice(20, 3, -5),
        [0],
        [22, 0, 7, 7, 8, 6],
        [-1, -23, 5],
        np.arange(23) % 3 == 0,
        np.zeros(23, bool),
        np.array([], int),
    ],
    ids=str,
)
def test_rows_are_read_as_numpy_would(stored, rows):
    store, truth = stored

    for name, values in truth.items():
        got = store.read(name, rows)
        np.testing.assert_array_equal(got, values[rows])
        assert got.dtype == values.dtype


@pytest.mark.parametrize("rows", [[23], [-24], [0.5], np.ones(22, bool)], ids=str)
def test_rows_that_are_not_there(stored, rows):
    with pytest.raises(IndexError):
        stored[0].read("conv", rows)


def test_read_into_given_arrays(stored):
    store, rows = stored
    conv, dense = np.full((9, 5), np.nan, np.float32), np.full((9, 3), np.nan)

    store.read_into({"conv": conv, "dense#2": dense}, 4)

    np.testing.assert_array_equal(conv, rows["conv"][4:13])
    np.testing.assert_array_equal(dense, rows["dense#2"][4:13])


@pytest.mark.parametrize(("dtype", "shape"), [("f4", (4, 4)), ("f8", (4, 5)), ("f4", (5,))])
def test_read_into_an_array_that_does_not_suit(stored, dtype, shape):
    with pytest.raises(ValueError, match=r"'conv' must be .*\(n, 5\).*float32"):
        stored[0].read_into({"conv": np.zeros(shape, dtype)}, 0)
    with pytest.raises(ValueError, match=r"C-contiguous"):
        stored[0].read_into({"conv": np.zeros((5, 4), np.float32).T}, 0)


def test_read_into_past_the_end(stored):
    with pytest.raises(IndexError, match=r"20 to 25.*there are 23"):
        stored[0].read_into({"conv": np.zeros((5, 5), np.float32)}, 20)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [slice(None), slice(5, 17), slice(8, 8), slice(-3, 99)], ids=str)
@pytest.mark.parametrize("examples", [1, 4, 23, 1000])
def test_blocks_follow_each_other(stored, rows, examples):
    store, truth = stored
    names = ["conv", "prediction:output"]
    start, stop, _ = rows.indices(23)
    expected, got = start, {name: [] for name in names}

    for first, block in store.blocks(names, rows, block_bytes=28 * examples):
        assert first == expected
        assert list(block) == names
        assert len(block["conv"]) == len(block["prediction:output"]) <= examples
        for name, values in block.items():
            got[name].append(values.copy())
        expected = first + len(block["conv"])

    assert expected == stop
    for name, parts in got.items():
        if parts:
            np.testing.assert_array_equal(np.concatenate(parts), truth[name][rows])


def test_blocks_take_turns_in_two_arrays(stored):
    blocks = [block["conv"] for _, block in stored[0].blocks(["conv"], block_bytes=20 * 4)]

    assert len(blocks) == 6
    assert len({values.__array_interface__["data"][0] for values in blocks}) == 2


def test_a_block_larger_than_one_row_s_limit_still_has_a_row(stored):
    assert [len(b["conv"]) for _, b in stored[0].blocks(["conv"], block_bytes=1)] == [1] * 23


def test_blocks_may_be_left_early(stored):
    for first, _ in stored[0].blocks(["conv"], block_bytes=20):
        if first == 3:
            break
    np.testing.assert_array_equal(stored[0].read("conv"), stored[1]["conv"])


def test_blocks_need_a_step_of_one(stored):
    with pytest.raises(ValueError, match="slice of step 1"):
        next(stored[0].blocks(["conv"], slice(None, None, 2)))


def test_large_reads_are_divided_among_threads(tmp_path):
    # 16 MB of one column and 8 MB of another: several reads each, with a remainder.
    columns = [
        Column(Tap(name, (None, n), "float32", "Dense"), n, "float32", f"{i:03d}.npy")
        for i, (name, n) in enumerate([("a", 2049), ("b", 1023)])
    ]
    rows = table(2001, columns)
    header = make_header(columns, Reduction(), **MADE_FROM)
    for index, part in enumerate((slice(0, 700), slice(700, None))):
        write(tmp_path / shard_name(index, 2), [r[part] for r in rows], 2, header)

    store = FeatureStore(tmp_path)

    np.testing.assert_array_equal(store.read("a"), rows[0])
    np.testing.assert_array_equal(store.read("b", slice(3, 1999)), rows[1][3:1999])
    for first, block in store.blocks(["a", "b"], slice(1, None)):
        for name, values in zip("ab", rows, strict=True):
            np.testing.assert_array_equal(block[name], values[first : first + len(block[name])])


def test_unknown_taps(stored):
    with pytest.raises(KeyError, match=r"no tap 'dense'\. The nearest are: dense#2"):
        stored[0].read("dense")
    with pytest.raises(KeyError, match="no tap 'c'"):
        next(stored[0].blocks("conv"))


def test_writing_goes_on_from_what_is_durable(tmp_path):
    rows = table(20)
    first = [values[:12] for values in rows]
    with ShardWriter(tmp_path / "killed", HEADER) as writer:
        writer.append(first)
        writer.flush()
        # Written to disk, but not durable, as after a kill.
        writer.append([values[12:15] for values in rows])

    sizes = [(tmp_path / "killed" / column.file).stat().st_size for column in COLUMNS]
    assert sizes == [128 + 15 * 20, 128 + 15 * 24, 128 + 15 * 8]
    with ShardWriter(tmp_path / "killed", HEADER) as writer:
        assert writer.done == 12
        assert not writer.complete
        writer.append([values[12:] for values in rows])
        writer.finish()
    write(tmp_path / "straight", rows, 1)

    for name in ("000.npy", "001.npy", "002.npy", "manifest.json"):
        killed, straight = (tmp_path / run / name for run in ("killed", "straight"))
        assert killed.read_bytes() == straight.read_bytes(), name


def test_a_shard_that_is_killed_before_anything_is_durable(tmp_path):
    with ShardWriter(tmp_path, HEADER) as writer:
        writer.append(table(5))
    rows = table(4)
    write(tmp_path, rows, 1)

    np.testing.assert_array_equal(np.load(tmp_path / "000.npy"), rows[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "another"}, r"another model \(its weights or settings differ\)"),
        ({"data": "another"}, "another data set"),
        ({"reduction": {**HEADER["reduction"], "seed": 1}}, "another reduction"),
        ({"columns": HEADER["columns"][1:], "edges": []}, "another choice of taps"),
    ],
)
def test_a_shard_of_something_else_is_refused(tmp_path, change, said):
    write(tmp_path, table(5), 1)

    with pytest.raises(ValueError, match=rf"holds features of {said}.*overwrite=True"):
        ShardWriter(tmp_path, {**HEADER, **change})


def test_no_store(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"holds no feature store.*`extract`"):
            FeatureStore(folder)
        assert not FeatureStore.is_complete(folder)


def test_missing_shard(tmp_path):
    write(tmp_path / shard_name(0, 3), table(4), 1)
    write(tmp_path / shard_name(2, 3), table(4), 1)

    with pytest.raises(FileNotFoundError, match=r"00001-of-00003 is missing.*shard=\(2, 3\)"):
        FeatureStore(tmp_path)
    assert not FeatureStore.is_complete(tmp_path)
    write(tmp_path / shard_name(1, 3), table(4), 1)
    assert FeatureStore.is_complete(tmp_path)
    assert FeatureStore(tmp_path).examples == 12


def test_incomplete_shard(tmp_path):
    write(tmp_path / shard_name(0, 2), table(4), 1)
    with ShardWriter(tmp_path / shard_name(1, 2), HEADER) as writer:
        writer.append(table(3))
        writer.flush()

    with pytest.raises(ValueError, match="00001-of-00002 is not complete: it has 3 examples"):
        FeatureStore(tmp_path)
    assert not FeatureStore.is_complete(tmp_path)


def test_shards_of_different_work(tmp_path):
    write(tmp_path / shard_name(0, 2), table(4), 1)
    write(tmp_path / shard_name(1, 2), table(4), 1, {**HEADER, "model": "another"})

    with pytest.raises(ValueError, match=r"00001-of-00002 .* was made from another model"):
        FeatureStore(tmp_path)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "harm", "message"),
    [
        ("001.npy", lambda p: flip(p, 128), r"001.npy \('dense#2'\) is not what was written"),
        ("001.npy", lambda p: flip(p, -1), r"001.npy \('dense#2'\) is not what was written"),
        ("000.npy", lambda p: flip(p, 20), r"000.npy \('conv'\) does not have the header"),
        ("000.npy", lambda p: cut(p, -1), r"000.npy \('conv'\) was cut short: 688 .* 687 are"),
        ("000.npy", lambda p: cut(p, 0), r"000.npy \('conv'\) was cut short: 688 .* 0 are"),
        ("002.npy", lambda p: p.unlink(), r"002.npy \('prediction:output'\) was cut short"),
        ("manifest.json", lambda p: cut(p, 300), r"manifest.json is not valid JSON .*cut short"),
        ("manifest.json", lambda p: cut(p, 0), r"manifest.json is not valid JSON"),
        ("manifest.json", lambda p: replace(p, '"done": 28', '"done": 27'), r"json was edited"),
        ("manifest.json", lambda p: replace(p, "dense#2", "dense#3"), r"json was edited"),
        ("manifest.json", lambda p: replace(p, "mean", "last"), r"json was edited"),
        ("manifest.json", lambda p: replace(p, '"done": 28', '"gone": 28'), r"json was edited"),
    ],
    ids=[
        "first byte", "last byte", "header", "cut by a byte", "emptied", "removed",
        "manifest cut", "manifest emptied", "examples", "tap name", "reduction", "key",
    ],
)  # fmt: skip
def test_harm_is_found(tmp_path, file, harm, message):
    write(tmp_path / shard_name(0, 1), table(28))
    FeatureStore(tmp_path)

    harm(tmp_path / shard_name(0, 1) / file)

    with pytest.raises(ValueError, match=message):
        FeatureStore(tmp_path)


def test_harm_is_found_before_writing_goes_on(tmp_path):
    with ShardWriter(tmp_path, HEADER) as writer:
        writer.append(table(9))
        writer.flush()
    flip(tmp_path / "001.npy", 130)

    with pytest.raises(ValueError, match=r"'dense#2'\) is not what was written.*overwrite=True"):
        ShardWriter(tmp_path, HEADER)


def test_without_verifying_only_sizes_are_looked_at(tmp_path):
    shard = tmp_path / shard_name(0, 1)
    write(shard, table(28))
    flip(shard / "000.npy", 500)

    assert FeatureStore(tmp_path, verify=False).examples == 28
    cut(shard / "000.npy", -1)
    with pytest.raises(ValueError, match="cut short"):
        FeatureStore(tmp_path, verify=False)


def test_a_file_that_is_cut_while_it_is_read(tmp_path):
    write(tmp_path / shard_name(0, 1), table(28))
    store = FeatureStore(tmp_path)
    cut(tmp_path / shard_name(0, 1) / "000.npy", 200)

    with pytest.raises(ValueError, match="truncated while it was read"):
        store.read("conv")


STREAM = """
    import json, pathlib, re, sys
    from thesis_tf.probes.features.store import FeatureStore

    def high_water():  # KiB; getrusage would count the parent's memory before exec as well
        return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])

    store = FeatureStore(sys.argv[1], verify=False)
    before = high_water()
    rows = sum(len(block["wide1"]) for _, block in store.blocks(["wide1"]))
    peak = high_water()
    print(json.dumps([store.examples, rows, before, peak]))
"""


@pytest.mark.slow
def test_a_store_far_larger_than_memory_is_streamed(run_python, tmp_path):
    # Ten sparse columns of 2 GB each, which take no space on disk.
    rows, features = 122_071, 4096
    columns = [
        Column(
            Tap(f"wide{i}", (None, features), "float32", "Dense"), features, "float32", f"{i}.npy"
        )
        for i in range(10)
    ]
    shard = tmp_path / shard_name(0, 1)
    header = make_header(columns, Reduction(), **MADE_FROM)
    write(shard, [np.zeros((0, features), np.float32)] * 10, 1, header)
    edit(shard, done=rows)
    for column in columns:
        with (shard / column.file).open("r+b") as file:
            text = repr({"descr": "<f4", "fortran_order": False, "shape": (rows, features)})
            file.seek(10)
            file.write(text.ljust(117).encode())
            file.truncate(128 + rows * column.row_bytes)
    assert sum(file.stat().st_size for file in shard.glob("*.npy")) > 20e9

    examples, streamed, before, peak = run_python(STREAM, tmp_path)

    assert examples == streamed == rows
    assert peak < 1 << 20  # KiB: 1 GiB, half of which is TensorFlow
    assert peak - before < 1 << 16  # 64 MiB: two blocks of 8 MiB, and the threads that read them
