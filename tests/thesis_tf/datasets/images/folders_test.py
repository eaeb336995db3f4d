import itertools
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from thesis_tf import datasets


def write(folder, classes, n, size=(6, 8), first=0):
    """Writes n images of one color per class: red is the class, green the number of the image."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(first, first + n):
            pixels = np.zeros((*size, 3), np.uint8)
            pixels[...] = (number, i, 200)
            Image.fromarray(pixels).save(folder / name / f"{i:03d}.png")


def colors(split):
    """Returns (red, green) of each image; checks that each image has only one color."""
    np.testing.assert_array_equal(split.x, np.broadcast_to(split.x[:, :1, :1], split.x.shape))
    return [tuple(pixel) for pixel in split.x[:, 0, 0, :2].tolist()]


def test_a_folder_of_classes_is_split(tmp_path):
    write(tmp_path / "pets", ["cat", "dog"], 25)
    splits = datasets.load(tmp_path / "pets", image_size=(6, 8))

    assert splits.name == "pets"
    assert splits.class_names == ("cat", "dog")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [40, 5, 5]
    assert splits.train.x.shape == (40, 6, 8, 3)
    assert splits.train.x.dtype == np.uint8
    parts = [colors(part) for part in (splits.train, splits.validation, splits.test)]
    assert sorted(itertools.chain(*parts)) == [(c, i) for c in range(2) for i in range(25)]
    for part, seen in zip((splits.train, splits.validation, splits.test), parts, strict=True):
        assert part.y.tolist() == [red for red, _ in seen]


def test_images_come_in_a_drawn_order_and_not_by_class(tmp_path):
    write(tmp_path / "pets", ["cat", "dog"], 25)
    load = lambda seed: datasets.load(tmp_path / "pets", image_size=(6, 8), seed=seed)  # noqa: E731

    for seed in range(3):
        splits = load(seed)
        # All 10 drawn of 50 examples in two classes have the same class with probability 6e-4.
        assert len(set(splits.validation.y) | set(splits.test.y)) == 2
        assert (np.diff(splits.train.y) != 0).sum() > 1
    assert colors(load(0).train) == colors(load(0).train)
    assert colors(load(0).validation) != colors(load(1).validation)


@pytest.mark.parametrize("spelling", ["validation", "valid", "val"])
def test_folders_of_splits(tmp_path, spelling):
    write(tmp_path / "train", ["a", "b", "c"], 4)
    write(tmp_path / spelling, ["c", "a"], 2, first=10)  # Here "c" is written as red 0.
    write(tmp_path / "test", ["a", "b", "c"], 3, first=20)
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    splits = datasets.load(tmp_path, image_size=(6, 8))

    assert splits.class_names == ("a", "b", "c")
    assert sorted(colors(splits.train)) == [(c, i) for c in range(3) for i in range(4)]
    assert sorted(colors(splits.test)) == [(c, i) for c in range(3) for i in (20, 21, 22)]
    # If a class has no images in a split, the other classes keep their numbers.
    red_of = {2: 0, 0: 1}
    assert sorted(splits.validation.y.tolist()) == [0, 0, 2, 2]
    validation = splits.validation
    assert [red for red, _ in colors(validation)] == [red_of[y] for y in validation.y]


def test_train_may_be_a_class(tmp_path):
    write(tmp_path, ["bus", "test", "train"], 5)

    assert datasets.load(tmp_path, image_size=(6, 8)).class_names == ("bus", "test", "train")


@pytest.mark.parametrize("names", [["steam_train", "toy_train"], ["cat", "my_test", "my_train"]])
def test_classes_may_have_a_split_in_their_names(tmp_path, names):
    write(tmp_path, names, 5)

    assert datasets.load(tmp_path, image_size=(6, 8)).class_names == tuple(names)


def test_images_of_other_sizes_and_formats(tmp_path):
    write(tmp_path, ["a", "b"], 5)
    flat = np.full((3, 17), 90, np.uint8)
    Image.fromarray(flat).save(tmp_path / "a" / "gray.png")
    Image.fromarray(np.full((40, 40, 4), 91, np.uint8)).save(tmp_path / "b" / "alpha.png")
    Image.fromarray(flat + 2).save(tmp_path / "b" / "still.gif")
    Image.fromarray(np.full((9, 9, 3), 93, np.uint8)).save(tmp_path / "a" / "x.JPG", quality=95)
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    splits = datasets.load(tmp_path)

    x, y, _ = splits.stacked()
    assert x.shape == (14, 224, 224, 3)
    assert x.dtype == np.uint8
    seen = {int(image[0, 0, 0]): label for image, label in zip(x, y, strict=True)}
    # Resizing doesn't change images of one color; JPEG is exact for a block of one gray value.
    assert {level: seen.get(level) for level in (90, 91, 92, 93)} == {90: 0, 91: 1, 92: 1, 93: 0}


def test_resizing_rounds_to_the_nearest_value(tmp_path):
    write(tmp_path, ["a", "b"], 5, size=(1, 2))
    for path in tmp_path.glob("*/*.png"):
        Image.fromarray(np.array([[[0] * 3, [7] * 3]], np.uint8)).save(path)
    splits = datasets.load(tmp_path, image_size=(1, 4))

    # Half-pixel centers: the four outputs are at 0, 1/4, 3/4 and 1 of the way from 0 to 7.
    assert splits.train.x[0, 0, :, 0].tolist() == [0, 2, 5, 7]


def test_an_image_that_cannot_be_decoded_is_named(tmp_path):
    write(tmp_path, ["a", "b"], 20)
    (tmp_path / "b" / "007.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")

    with pytest.raises(ValueError, match=r"b/007\.png must be a JPEG, PNG, BMP, GIF, WebP or TIFF"):
        datasets.load(tmp_path, image_size=(6, 8))


def test_an_empty_file_is_named(tmp_path):
    write(tmp_path, ["a", "b"], 3)
    (tmp_path / "a" / "001.png").write_bytes(b"")

    with pytest.raises(ValueError, match=r"a/001\.png must be a JPEG, PNG, BMP, GIF, WebP or TIFF"):
        datasets.load(tmp_path, image_size=(6, 8))


def test_folders_that_are_no_data_set(tmp_path):
    with pytest.raises(ValueError, match=r"a sub-folder of images for each class.*no sub-folders"):
        datasets.load(tmp_path)

    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match=r"a folder with images\. Received: no images"):
        datasets.load(tmp_path)

    write(tmp_path, ["b"], 5)
    with pytest.raises(ValueError, match=r"labels of at least two classes\. Received: 5 labels"):
        datasets.load(tmp_path, image_size=(6, 8))


def test_splits_without_train(tmp_path):
    write(tmp_path / "val", ["a", "b"], 1)

    with pytest.raises(
        ValueError, match=r"train/CLASS/ in addition to its other splits\. Received: val"
    ):
        datasets.load(tmp_path)


def test_two_validation_folders(tmp_path):
    for split in ("train", "valid", "val"):
        write(tmp_path / split, ["a", "b"], 1)

    with pytest.raises(
        ValueError, match=r"one of validation, valid, val, dev, eval\. .*: val and valid"
    ):
        datasets.load(tmp_path)


def test_a_class_that_training_lacks(tmp_path):
    write(tmp_path / "train", ["a", "b"], 3)
    write(tmp_path / "test", ["a", "z"], 3)

    with pytest.raises(
        ValueError, match=r"test must be a folder with only the classes of train/.*z"
    ):
        datasets.load(tmp_path, image_size=(6, 8))


def test_one_image(tmp_path):
    write(tmp_path, ["a"], 1)
    (tmp_path / "b").mkdir()

    with pytest.raises(ValueError, match=r"at least two classes\. Received: 1 label, all 0"):
        datasets.load(tmp_path, image_size=(6, 8))


def plain(folder, files):
    """Writes images of one color, by path: green is the number of the file in `files`."""
    for number, file in enumerate(files):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (0, number, 200)).save(path, "TIFF" if "tif" in file else None)


def laid_out(*splits, classes="ab", count=6):
    return [f"{s}/{c}/{i}.png" for s in splits for c in classes for i in range(count)]


# (the folders, the class of each image and the number of examples of given splits)
LAYOUTS = {
    "cats_and_dogs": (("train", "validation"), {"train": 12, "validation": 12}),
    "mnist_png": (("training", "testing"), {"train": 12, "test": 12}),
    "fruits": (("Train", "Test"), {"train": 12, "test": 12}),
    "capitals": (("TRAIN", "VAL", "TEST"), {"train": 12, "validation": 12, "test": 12}),
    "dev": (("train", "dev", "test"), {"train": 12, "validation": 12, "test": 12}),
    "eval": (("Training", "Eval"), {"train": 12, "validation": 12}),
    "valid": (("train", "valid", "test"), {"train": 12, "validation": 12, "test": 12}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_splits_by_the_names_that_people_give_them(tmp_path, name):
    folders, sizes = LAYOUTS[name]
    files = laid_out(*folders)
    plain(tmp_path, files)
    splits = datasets.load(tmp_path, image_size=(6, 8))

    assert splits.class_names == ("a", "b")
    seen = []
    for split in ("train", "validation", "test"):
        part = getattr(splits, split)
        assert part.source == (split if split in sizes else "train")
        for image, label, file in zip(part.x, part.y, part.names, strict=True):
            # The pixels say which file an example is.
            assert files[image[0, 0, 1]] == file
            assert file.split("/")[1] == "ab"[label]
            assert datasets.splits.split_of(file.split("/")[0]) == part.source
            seen.append(file)
    assert sorted(seen) == sorted(files)
    for split, size in sizes.items():
        missing = {"validation", "test"} - set(sizes)
        assert len(getattr(splits, split)) == (size - len(missing) if split == "train" else size)
    # Examples without labels are the same ones.
    inputs = datasets.load_inputs(tmp_path)
    assert inputs.names == datasets.load(tmp_path).names


UNCLEAR = {
    "no classes in the splits": (["train/0.png", "test/1.png"], "train, which may be splits or cl"),
    "sets": (laid_out("training_set", "test_set"), "test_set, training_set, which may be splits"),
    "a word before": (laid_out("seg_train", "seg_test"), "seg_test, seg_train, which may be spl"),
    "a word before, without classes": (["a_train/0.png", "a_dev/1.png"], "a_train, which may be"),
    "a word behind": (laid_out("train-a", "valid-a"), "train-a, valid-a, which may be splits"),
    "short": (laid_out("trn", "tst"), "trn, tst, which may be splits"),
    "one set": (laid_out("train", "x") + laid_out("x"), "and beside them the images of x"),
    "trainval": (laid_out("trainval", "test"), "train/CLASS/ in addition to its other splits"),
    "val alone": (laid_out("val"), "train/CLASS/ in addition to its other splits. .*: val"),
    "twice in other letters": (laid_out("train", "Train"), "one of train, training. .*: Train and"),
    "test and testing": (laid_out("train", "test", "testing"), "one of test, testing"),
    "classes beside splits": (
        [*laid_out("train", "test"), "cat/0.png"], "which are splits, and beside them .* of cat",
    ),
    "an unread format": ([*laid_out("a", classes=["."]), "b/0.png", "b/1.heic"], "1.heic must be"),
    "a class of other files": (["a/0.png", "b/1.dat"], "b must be a folder of images .* 1 other"),
    "one class": (["a/0.png", "a/1.png", "b/2.txt", "b/.hidden.png"], "b must be a folder of imag"),
    "other letter case in test": (
        [*laid_out("train"), *laid_out("test", classes="aB")], "only the classes of train/.*: B",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_is_not_clear_is_refused_by_name(tmp_path, name):
    files, message = UNCLEAR[name]
    plain(tmp_path, [file for file in files if file.endswith(".png")])
    for file in files:
        if not file.endswith(".png"):
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_bytes(b"something")
    for load in (datasets.load, datasets.load_inputs):
        with pytest.raises(ValueError, match=message):
            load(tmp_path)


def test_every_file_is_read_or_counted(tmp_path):
    files = [f"{c}/{i}.{e}" for c in "ab" for i, e in enumerate(("png", "JPG", "tif", "webp"))]
    files += ["a/more/deep/9.png", "b/été [1]*.png", "train/0.jfif", "train/1.TIFF", "train/2.jpe"]
    plain(tmp_path, files)
    for name in ("a/._0.png", "a/.DS_Store", "b/Thumbs.db", "b/notes.txt", "b/README", "list.csv"):
        (tmp_path / name).write_bytes(b"no image")
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".cache").mkdir()
    splits = datasets.load(tmp_path, image_size=(6, 8))

    assert splits.class_names == ("a", "b", "train")
    names = [name for part in splits.names.values() for name in part]
    assert sorted(names) == sorted(files)
    read, left_out = splits.notes
    assert read == ("read 13 files (1 .jfif, 1 .jpe, 2 .jpg, 4 .png, 2 .tif, 1 .tiff, 2 .webp)")
    assert left_out == (
        "left out 1 broken links, 1 empty folders, which are no classes, 1 files of the system,"
        " 2 hidden files, 1 other files (.csv), 1 other files (.txt),"
        " 1 other files (without a suffix)"
    )
    assert read in splits.describe()
    assert list(splits.notes) == splits.summary()["notes"]


def test_links(tmp_path):
    plain(tmp_path / "there", ["b/0.png", "b/1.png", "b/2.png", "more/3.png"])
    plain(tmp_path / "data", ["a/4.png", "a/5.png", "a/6.png"])
    (tmp_path / "data" / "b").symlink_to(tmp_path / "there" / "b")
    (tmp_path / "data" / "a" / "more").symlink_to(tmp_path / "there" / "more")
    splits = datasets.load(tmp_path / "data", image_size=(6, 8))
    counts = np.bincount(
        np.concatenate([p.y for p in (splits.train, splits.validation, splits.test)])
    )
    assert counts.tolist() == [4, 3]

    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data" / "a")
    with pytest.raises(ValueError, match="no link to a folder that is read anyway"):
        datasets.load(tmp_path / "data", image_size=(6, 8))


def test_names_that_only_differ_in_their_code_points(tmp_path):
    one, other = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    plain(
        tmp_path, [*laid_out("train", classes=[one, "b"]), *laid_out("test", classes=[other, "b"])]
    )
    # A folder that was copied from another system: the same class.
    splits = datasets.load(tmp_path, image_size=(6, 8))
    assert splits.class_names == ("b", one)
    assert np.bincount(splits.test.y).tolist() == [6, 6]

    os.mkdir(tmp_path / "train" / other)
    plain(tmp_path / "train" / other, ["0.png"])
    with pytest.raises(ValueError, match=f"one folder for each class. Received: two {one}"):
        datasets.load(tmp_path, image_size=(6, 8))


def test_dark_images_of_16_bits_have_no_known_range(tmp_path):
    for number in range(6):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        image = np.full((6, 8), 4000, np.uint16)  # as a camera of 12 bits writes them
        Image.fromarray(image).save(folder / f"{number}.png")
    splits = datasets.load(tmp_path, image_size=(6, 8))
    assert "of which 6 reduced from 16 to 8 bits" in splits.notes
    with pytest.raises(ValueError, match="`value_range` must be given"):
        splits.values.known_pixels()
    # Dark images of 8 bits are known to be in [0, 255].
    write(tmp_path / "dark", ["a", "b"], 5)
    assert datasets.load(tmp_path / "dark", image_size=(6, 8)).values.pixels == (0, 255)


def test_values_by_the_names_of_files(tmp_path):
    plain(tmp_path, [f"{c}/{i}.png" for c in "ab" for i in range(20)])  # names occur twice
    splits = datasets.load(tmp_path, image_size=(6, 8))
    x, _, _ = splits.stacked()
    values = {f"{c}/{i}.png": 20 * number + i for number, c in enumerate("ab") for i in range(20)}
    np.testing.assert_array_equal(splits.gather_by_name(values), x[:, 0, 0, 1])
    few = splits.take(train=7, validation=2, test=3, seed=1)
    np.testing.assert_array_equal(few.gather_by_name(values), few.stacked()[0][:, 0, 0, 1])
    assert [len(names) for names in few.names.values()] == [7, 2, 3]

    first = splits.train.names[0]
    with pytest.raises(ValueError, match=f"39 names, none of them {first}"):
        splits.gather_by_name({n: v for n, v in values.items() if n != first})
    with pytest.raises(
        ValueError, match=r"45 names, of which no image has 0\.p, 1\.p, 2\.p and 2 m"
    ):
        splits.gather_by_name(values | {f"{i}.p": 0 for i in range(5)})
    assert datasets.load("mnist_mini").names is None
    with pytest.raises(ValueError, match=r"The data set must be a folder.*Received: mnist_mini"):
        datasets.load("mnist_mini").gather_by_name({"a": 0})
