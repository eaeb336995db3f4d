"""Fingerprints of what the inputs of a run hold: of the files that its flags name, and of its data.

A file is hashed as a whole, at the speed of the disk. Of an archive (.keras, .npz) the members are
hashed, without dates, so that a file that is saved again with the same contents is the same; names
of layers count. Data are hashed as they were loaded, after resizing, splitting and drawing: the
examples and labels in their order, and names of classes. Of arrays above 1 GiB,
`thesis_tf.persistence.fingerprint.of_arrays` says which values are hashed.
"""

import hashlib
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any

from bin.common import flags
from thesis_tf.persistence import fingerprint

if TYPE_CHECKING:
    import numpy as np

    from thesis_tf.datasets import Splits

# Members of .keras files: one has a date, the other addresses in memory for shared settings.
_DATE, _SETTINGS = "metadata.json", "config.json"
_SHARED = re.compile(rb'("shared_object_id": )(\d+)')
_CHUNK = 1 << 20


def of_flags(config: Any) -> dict[str, str]:
    """Returns {"--flag=path": fingerprint} for all existing files that a config's flags name."""
    return {
        f"--{name}={path}": of_file(path)
        for name, path in flags.paths(config)
        # Names of networks and of Keras' weights have no suffix.
        if pathlib.Path(path).suffix and pathlib.Path(path).is_file()
    }


def of_file(path: str | pathlib.Path) -> str:
    """Returns the fingerprint of a file's contents, of an archive's without dates."""
    digest = hashlib.sha256()
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                for member in sorted(archive.infolist(), key=lambda member: member.filename):
                    if member.filename == _DATE:
                        continue
                    digest.update(f"{member.filename}\n".encode())
                    if member.filename == _SETTINGS:
                        digest.update(_without_addresses(archive.read(member)))
                        continue
                    with archive.open(member) as file:
                        _add(digest, file)
            return digest.hexdigest()[:32]
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError):
            # Damaged, encrypted or compressed in an unknown way: what reads it says so.
            digest = hashlib.sha256()
    with open(path, "rb") as file:
        _add(digest, file)
    return digest.hexdigest()[:32]


def _without_addresses(settings: bytes) -> bytes:
    """Numbers shared settings in the order of their appearance."""
    numbers: dict[bytes, int] = {}
    return _SHARED.sub(
        lambda found: found[1] + b"%d" % numbers.setdefault(found[2], len(numbers)), settings
    )


def _add(digest: Any, file: IO[bytes]) -> None:
    while chunk := file.read(_CHUNK):
        digest.update(chunk)


def of_splits(splits: "Splits") -> str:
    """Returns the fingerprint of the examples, labels and class names of `Splits`."""
    parts = [getattr(splits, name) for name in ("train", "validation", "test")]
    return of_examples([(part.x, part.y) for part in parts], splits.class_names)


def of_examples(
    pairs: "Iterable[tuple[np.ndarray, np.ndarray]]", class_names: Iterable[str] = ()
) -> str:
    """Returns the fingerprint of (examples, labels) of each split, and the classes' names."""
    arrays = []
    for x, y in pairs:
        arrays += [x] if y is x else [x, y]
    return fingerprint.of_json([fingerprint.of_arrays(arrays), list(class_names)])
