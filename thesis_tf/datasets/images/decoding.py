"""Decodes images of any common format to RGB, as viewers show them."""

from __future__ import annotations

import pathlib
import warnings

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps

from thesis_tf._core import checks
from thesis_tf._core.types import Array

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff",
)  # fmt: skip
# Images of other formats are refused, since leaving them out would change a data set silently.
UNREAD_SUFFIXES = (
    ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".svg", ".psd", ".ico", ".tga", ".ppm",
    ".pgm", ".pbm", ".pnm", ".exr", ".hdr", ".dng", ".cr2", ".nef", ".arw", ".raw", ".dcm", ".npy",
)  # fmt: skip
REDUCED = "reduced from 16 to 8 bits"
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
# What the values of the EXIF orientation ask for.
_TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
_WANTED = "a JPEG, PNG, BMP, GIF, WebP or TIFF image with up to 16 bits per channel"


def decode(path: pathlib.Path) -> tuple[Array, list[str]]:
    """Decodes one image.

    The format is that of the content, whatever the suffix says. Of several frames or pages the
    first is taken. The EXIF orientation is applied, 16-bit channels keep their upper eight bits,
    transparency is left out, and gray, palette, CMYK and other colors become RGB. The pixels of a
    JPEG are those of TensorFlow's default decoder, those of other formats Pillow's.

    Args:
        path: the file.

    Returns:
        (pixels, uint8 of shape (height, width, 3); phrases about what was done to the image).

    Raises:
        ValueError: the file can't be decoded; the message is one line with its name.
    """
    try:
        with warnings.catch_warnings():
            # A large image is only slow, and Pillow raises for one that is an attack.
            warnings.simplefilter("ignore")
            with PIL.Image.open(path, formats=_FORMATS) as image:
                return _pixels(path, image)
    except Exception as error:  # Pillow and TensorFlow raise many types, depending on the bytes.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise checks.invalid(
            str(path), _WANTED, f"a file that can't be decoded ({reason})"
        ) from error


def _pixels(path: pathlib.Path, image: PIL.Image.Image) -> tuple[Array, list[str]]:
    said = []
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        said.append("without the frames after the first")
    if "A" in image.getbands() or "transparency" in image.info:
        said.append("without transparency")
    orientation = image.getexif().get(PIL.ExifTags.Base.Orientation, 1)
    if orientation != 1:
        said.append("turned as EXIF says")
    if image.format in ("JPEG", "MPO"):
        import tensorflow as tf

        pixels = tf.io.decode_jpeg(path.read_bytes(), channels=3).numpy()
        if orientation in _TURNS:
            pixels = np.asarray(PIL.Image.fromarray(pixels).transpose(_TURNS[orientation]))
        return pixels, said
    image.load()
    # Before Pillow 11, a 16-bit PNG has 32 bits.
    is_deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    image = PIL.ImageOps.exif_transpose(image)
    if is_deep:
        said.append(REDUCED)
        gray = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(gray[..., np.newaxis], 3, axis=-1), said
    if image.mode in ("I", "F"):
        raise ValueError("32 bits per channel, whose black and white are not known")
    return np.asarray(image.convert("RGB")), said


def resized(pixels: Array, size: tuple[int, int]) -> Array:
    """Returns an image of (height, width) `size`, bilinearly and rounded to the nearest value."""
    if pixels.shape[:2] == size:
        return pixels
    import tensorflow as tf

    return np.rint(tf.image.resize(pixels, size).numpy()).astype(np.uint8)
