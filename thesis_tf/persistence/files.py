"""Files that are either whole or not there: written under a temporary name, then renamed."""

import contextlib
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

Path = str | os.PathLike[str]


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`, which takes its place if the block succeeds.

    The temporary name keeps the suffix, which some writers look at. The block may write a file
    or a folder; a folder takes the place of an older one. After an error nothing is left and
    what stood at `path` is as it was.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        yield partial
        if partial.is_dir() and path.exists():
            old = path.with_name(f"{partial.name}.old")
            os.replace(path, old)
            os.replace(partial, path)
            remove(old)
        else:
            os.replace(partial, path)
    finally:
        remove(partial)


def remove(path: pathlib.Path) -> None:
    """Deletes a file or a folder with all that is in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` atomically; it outlasts a loss of power."""
    with atomic(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        # A rename can reach the disk before what was written to the file that it renames.
        os.fsync(file.fileno())


def to_json(value: Any) -> str:
    """Indented JSON; arrays are not for JSON and raise TypeError."""
    return json.dumps(value, indent=1, allow_nan=True) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Writes `value` to `path` as indented JSON, atomically."""
    write_text(path, to_json(value))


def read_json(path: Path) -> Any:
    """Reads JSON; raises ValueError with the path if the file was cut short."""
    path = pathlib.Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}): it was cut short or edited."
        ) from None
