import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from thesis_tf.datasets.images import decoding

RNG = np.random.default_rng(0)
SMOOTH = Image.fromarray(RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((33, 21), 3)
RGB = np.asarray(SMOOTH)
GRAY = np.asarray(SMOOTH.convert("L"))
ALPHA = RNG.integers(0, 256, RGB.shape[:2], dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (21, 33)).astype(np.uint16)


def stacked(gray):
    return np.repeat(gray[..., np.newaxis], 3, axis=-1)


def save(path, image, kind=None, **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        path, kind, **options
    )
    return path


PALETTE = SMOOTH.quantize(40)
COLORS = np.asarray(PALETTE.convert("RGB"))
# (suffix, image, options of Pillow, the right pixels, what is said)
LOSSLESS = {
    "PNG": (".png", RGB, {}, RGB, ""),
    "PNG in upper case": (".PNG", RGB, {"kind": "PNG"}, RGB, ""),
    "PNG called JPEG": (".jpg", RGB, {"kind": "PNG"}, RGB, ""),
    "gray PNG": (".png", GRAY, {}, stacked(GRAY), ""),
    "palette PNG": (".png", PALETTE, {}, COLORS, ""),
    "palette PNG with transparency": (
        ".png", PALETTE, {"transparency": 3}, COLORS, "without transparency",
    ),
    "RGBA PNG": (".png", np.dstack([RGB, ALPHA]), {}, RGB, "without transparency"),
    "LA PNG": (
        ".png", np.dstack([GRAY, ALPHA]), {}, stacked(GRAY), "without transparency",
    ),
    "1-bit PNG": (
        ".png", Image.fromarray(GRAY > 99), {}, stacked(np.where(GRAY > 99, 255, 0)), "",
    ),
    "16-bit PNG": (".png", DEEP, {}, stacked(DEEP >> 8), decoding.REDUCED),
    "BMP": (".bmp", RGB, {}, RGB, ""),
    "gray BMP": (".bmp", GRAY, {}, stacked(GRAY), ""),
    "palette BMP": (".bmp", PALETTE, {}, COLORS, ""),
    "1-bit BMP": (
        ".bmp", Image.fromarray(GRAY > 99), {}, stacked(np.where(GRAY > 99, 255, 0)), "",
    ),
    "GIF": (".gif", PALETTE, {}, COLORS, ""),
    "animated GIF": (
        ".gif", PALETTE, {"save_all": True, "append_images": [PALETTE.rotate(90)]}, COLORS,
        "without the frames after the first",
    ),
    "WebP": (".webp", RGB, {"lossless": True}, RGB, ""),
    "TIFF": (".tif", RGB, {}, RGB, ""),
    "TIFF by its long name": (".TIFF", RGB, {"kind": "TIFF"}, RGB, ""),
    "LZW TIFF": (".tif", RGB, {"compression": "tiff_lzw"}, RGB, ""),
    "16-bit TIFF": (".tif", DEEP, {}, stacked(DEEP >> 8), decoding.REDUCED),
    "CMYK TIFF": (
        ".tif", SMOOTH.convert("CMYK"), {}, np.asarray(SMOOTH.convert("CMYK").convert("RGB")), "",
    ),
    "TIFF of two pages": (
        ".tif", RGB, {"save_all": True, "append_images": [SMOOTH.rotate(90)]}, RGB,
        "without the frames after the first",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSLESS)
def test_formats_without_loss(tmp_path, name):
    suffix, image, options, right, phrase = LOSSLESS[name]
    options = dict(options)
    path = save(tmp_path / f"a{suffix}", image, options.pop("kind", None), **options)
    pixels, said = decoding.decode(path)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (21, 33, 3))
    np.testing.assert_array_equal(pixels, right)
    assert said == ([phrase] if phrase else [])


JPEGS = {
    "baseline": (SMOOTH, {}),
    "best": (SMOOTH, {"quality": 95, "subsampling": 0}),
    "progressive": (SMOOTH, {"progressive": True}),
    "gray": (SMOOTH.convert("L"), {}),
    "CMYK": (SMOOTH.convert("CMYK"), {}),
}


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".jfif", ".jpe"])
@pytest.mark.parametrize("name", JPEGS)
def test_jpegs_are_those_of_tensorflow(tmp_path, name, suffix):
    image, options = JPEGS[name]
    path = save(tmp_path / f"a{suffix}", image, "JPEG", **options)
    pixels, said = decoding.decode(path)
    expected = tf.io.decode_image(path.read_bytes(), channels=3, expand_animations=False)
    np.testing.assert_array_equal(pixels, expected)
    # The two decoders differ in the rounding of the inverse cosine transform alone.
    assert np.abs(pixels.astype(int) - np.asarray(Image.open(path).convert("RGB"))).max() <= 16
    assert said == []


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_the_orientation_is_applied(tmp_path, suffix, orientation):
    # Quarters of different gray values, of which the JPEG is exact.
    stored = np.kron(np.array([[10, 90], [170, 250]], np.uint8), np.ones((16, 24), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(stacked(stored)).save(path, exif=exif, **options)
    # From the definition of EXIF: where the stored first row and first column are shown.
    upright = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1],
        5: stored.T, 6: stored.T[:, ::-1], 7: stored.T[::-1, ::-1], 8: stored.T[::-1],
    }[orientation]  # fmt: skip
    pixels, said = decoding.decode(path)
    np.testing.assert_allclose(pixels, stacked(upright), atol=2)
    assert said == (["turned as EXIF says"] if orientation > 1 else [])


def encoded(image, kind, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


BROKEN = {
    "empty": b"",
    "text": b"no image",
    "zeros": bytes(5000),
    "half a PNG": encoded(RGB, "PNG")[:300],
    "half a JPEG": encoded(RGB, "JPEG")[:400],
    "half a TIFF": encoded(RGB, "TIFF")[:500],
    "a float TIFF": encoded(GRAY.astype(np.float32), "TIFF"),
    "a 32-bit TIFF": encoded(GRAY.astype(np.int32), "TIFF"),
    "another format": encoded(RGB, "PPM"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_decoded_is_named_in_one_line(tmp_path, name):
    (tmp_path / "b.png").write_bytes(BROKEN[name])
    with pytest.raises(
        ValueError, match=r"b\.png must be a JPEG, PNG, BMP, GIF, WebP or TIFF"
    ) as e:
        decoding.decode(tmp_path / "b.png")
    assert "\n" not in str(e.value)
    assert len(str(e.value)) < 500


def test_garbage_after_the_end_is_no_part_of_an_image(tmp_path):
    for kind in ("PNG", "JPEG"):
        (tmp_path / "a").write_bytes(encoded(RGB, kind) + b"garbage")
        (tmp_path / "b").write_bytes(encoded(RGB, kind))
        np.testing.assert_array_equal(*(decoding.decode(tmp_path / name)[0] for name in "ab"))


@pytest.mark.parametrize("size", [(21, 33), (5, 8), (40, 50), (1, 1)])
def test_resizing_is_that_of_keras(tmp_path, size):
    import keras

    (tmp_path / "f" / "a").mkdir(parents=True)
    save(tmp_path / "f" / "a" / "a.png", RGB)
    data = keras.utils.image_dataset_from_directory(
        str(tmp_path / "f"), image_size=size, batch_size=None, verbose=False
    )
    ((expected, _),) = data.as_numpy_iterator()
    np.testing.assert_array_equal(decoding.resized(RGB, size), np.rint(expected))
