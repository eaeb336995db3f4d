import itertools

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
    with pytest.raises(ValueError, match="a folder with images. Received: no images"):
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
