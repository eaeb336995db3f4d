"""Atomic writing of files: a temporary file is written and then renamed."""

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
    """Yields a temporary path in the same folder, which replaces `path` if the block succeeds.

    The temporary name has the same suffix, since some writers depend on it. The block may write a
    file or a folder; a folder replaces an older one. After an error, the temporary file is removed
    and `path` is unchanged.
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
    except OSError as error:
        # The error of a disk that is full says neither the file nor the folder.
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise
    finally:
        remove(partial)


def remove(path: pathlib.Path) -> None:
    """Deletes a file or a folder with its contents, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` atomically and durably, also in case of a power failure."""
    with atomic(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        # A rename may reach the disk before the contents of the renamed file.
        os.fsync(file.fileno())


def to_json(value: Any) -> str:
    """Returns indented JSON; raises TypeError for arrays."""
    return json.dumps(value, indent=1, allow_nan=True) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Writes `value` to `path` as indented JSON, atomically."""
    write_text(path, to_json(value))


def read_json(path: Path) -> Any:
    """Reads JSON; raises ValueError with the path if the file is invalid."""
    path = pathlib.Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}): it was cut short or edited."
        ) from None
