import csv

import numpy as np
import pytest
from PIL import Image

from bin.jobs import factors
from thesis_tf import datasets


@pytest.fixture
def splits(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "toy.npz"
    np.savez(path, x_train=rng.normal(size=(30, 2)), y_train=np.arange(30) % 3)
    return datasets.load(path)


def test_factors_come_in_the_order_of_the_stacked_examples(splits, tmp_path):
    np.savez(tmp_path / "factors.npz", row_train=np.arange(30))
    found = factors.read(str(tmp_path / "factors.npz"), splits)
    x, y, _ = splits.stacked()
    assert list(found) == ["row"]
    np.testing.assert_array_equal(found["row"] % 3, y)
    assert sorted(found["row"]) == list(range(30))
    assert len(x) == 30


def test_a_factor_does_not_take_the_place_of_the_data_sets_labels(splits, tmp_path):
    np.savez(tmp_path / "f.npz", class_train=np.arange(30) % 2, row_train=np.arange(30))
    with pytest.raises(ValueError, match="must have other names than class"):
        factors.read(str(tmp_path / "f.npz"), splits)


@pytest.mark.parametrize("spelling", ["validation", "valid", "val", "dev", "Eval"])
def test_spellings_of_the_validation_split(tmp_path, spelling):
    arrays = {"x_train": np.eye(4), "y_train": np.arange(4) % 2}
    held_out = {"x_test": np.eye(4), "y_test": np.arange(4) % 2}
    held_out |= {"x_validation": np.eye(4), "y_validation": np.arange(4) % 2}
    np.savez(tmp_path / "data.npz", **arrays, **held_out)
    names = ("train", spelling, "test")
    np.savez(tmp_path / "f.npz", **{f"f_{name}": np.full(4, i) for i, name in enumerate(names)})
    found = factors.read(str(tmp_path / "f.npz"), datasets.load(tmp_path / "data.npz"))
    np.testing.assert_array_equal(found["f"], np.repeat([0, 1, 2], 4))


def test_other_arrays_are_an_error(splits, tmp_path):
    np.savez(tmp_path / "factors.npz", row_new=np.arange(30))
    with pytest.raises(ValueError, match=r"FACTOR_train.*Received: row_new"):
        factors.read(str(tmp_path / "factors.npz"), splits)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"odd_train": np.zeros(30)}, "must hold integers.*odd_train of dtype float64"),
        (
            {"odd_train": np.zeros(30, int), "odd_training": np.zeros(30, int)},
            "odd for train twice",
        ),
        ({"odd_test": np.zeros(3, int)}, "`values` must be given for the source's train"),
        ({"odd_train": np.zeros(29, int)}, "`values` of train must be 30"),
    ],
)
def test_arrays_that_are_no_labels(splits, tmp_path, arrays, message):
    np.savez(tmp_path / "factors.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        factors.read(str(tmp_path / "factors.npz"), splits)


FILES = [f"{c}/{i}.png" for c in "ab" for i in range(10)]  # each base name occurs twice


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "photos"
    for number, file in enumerate(FILES):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / file)
    return datasets.load(folder, image_size=(8, 8))


def table(path, rows, head="file,parity,tone"):
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return str(path)


ROWS = [f"{file},{i % 2},{'dark' if i < 7 else 'bright'}" for i, file in enumerate(FILES)]


def test_labels_of_files_follow_their_images(photos, tmp_path, capsys):
    for rows in (ROWS, ROWS[::-1]):
        found = factors.read(table(tmp_path / "f.csv", rows), photos)
        number = photos.stacked()[0][:, 0, 0, 0]  # the images say which they are
        np.testing.assert_array_equal(found["parity"], number % 2)
        np.testing.assert_array_equal(found["tone"], number < 7)
        assert "tone: 0 is bright, 1 is dark." in capsys.readouterr().err
    few = photos.take(train=4, seed=3)
    found = factors.read(table(tmp_path / "f.csv", ROWS), few)
    np.testing.assert_array_equal(found["parity"], few.stacked()[0][:, 0, 0, 0] % 2)


@pytest.mark.parametrize(
    ("rows", "head", "message"),
    [
        (ROWS[1:], "file,p,t", r"--labels=.*f\.csv must be given.*19 names, none of them a/0\.png"),
        ([*ROWS, "a/11.png,0,dark"], "file,p,t", r"21 names, of which no image has a/11\.png"),
        ([*ROWS, ROWS[0]], "file,p,t", r"each file once\. Received: 1 names .* such as a/0\.png"),
        ([row.split("/")[1] for row in ROWS], "file,p,t", "each file once"),
        ([f"photos/{row}" for row in ROWS], "file,p,t", "by their paths in its folder, such as"),
        (ROWS, "name,p,t", r"the columns file,FACTOR,.* Received: name,p,t"),
        (ROWS, "file,p,p", "the columns file,FACTOR"),
        (ROWS, "file", "the columns file,FACTOR"),
        (ROWS, "file,p", "must have 2 values in each row.* 20 rows, the first of which is row 2"),
        (
            [f"{file},.5,1" for file in FILES],
            "file,p,t",
            r"integer or a name.*Received: '\.5' for p",
        ),
        ([f"{file},,1" for file in FILES], "file,p,t", "integer or a name.*Received: '' for p"),
        ([f"{file},2,1.0" for file in FILES], "file,p,t", r"Received: '1\.0' for t"),
    ],
)
def test_tables_that_do_not_fit_are_refused_by_name(photos, tmp_path, rows, head, message):
    with pytest.raises(ValueError, match=message):
        factors.read(table(tmp_path / "f.csv", rows, head), photos)


def test_the_kind_of_file_must_fit_the_data(photos, splits, tmp_path):
    np.savez(tmp_path / "f.npz", odd_train=np.zeros(20, int))
    with pytest.raises(
        ValueError, match=r"must be a \.csv file .* the order of the images of photos"
    ):
        factors.read(str(tmp_path / "f.npz"), photos)
    with pytest.raises(ValueError, match="The data set must be a folder"):
        factors.read(table(tmp_path / "f.csv", ROWS), splits)
    with pytest.raises(ValueError, match="must be an existing"):
        factors.read("no.csv", photos)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("empty", "bytes"):
        with pytest.raises(ValueError, match=r"must be a \.csv file with the columns"):
            factors.read(str(tmp_path / f"{name}.csv"), photos)


def test_the_list_of_examples(photos, splits, tmp_path):
    factors.write_examples(photos, tmp_path)
    with open(tmp_path / "examples.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = photos.stacked()[0][:, 0, 0, 0]
    assert [row["file"] for row in rows] == [FILES[number] for number in numbers]
    assert [row["class"] for row in rows] == [row["file"][0] for row in rows]
    assert {row["split"] for row in rows} == {"train", "validation", "test"}

    factors.write_examples(splits, tmp_path)
    with open(tmp_path / "examples.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["row"]) for row in rows) == list(range(30))
    assert [row["class"] for row in rows] == [str(int(row["row"]) % 3) for row in rows]
