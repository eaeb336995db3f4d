"""Atomic writing of files: a temporary file is written and then renamed; and JSON."""

import contextlib
import json
import math
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

Path = str | os.PathLike[str]

# JSON has no such numbers: strings stand for them, as in the JSON of Protocol Buffers.
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


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


def to_json(value: Any, *, indent: int | None = 1) -> str:
    """Returns JSON, on one line if `indent` is None; raises TypeError for arrays.

    Numbers that aren't finite become the strings "NaN", "Infinity" and "-Infinity", and strings
    that are these get a backslash in front, so that `from_json` returns the same value.
    """
    return json.dumps(_encoded(value), indent=indent, allow_nan=False) + "\n"


def from_json(text: str) -> Any:
    """Returns the value of a text of `to_json`; raises `json.JSONDecodeError`."""
    return _decoded(json.loads(text))


def _encoded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _encoded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encoded(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, str) and value.lstrip("\\") in _NOT_FINITE:
        return f"\\{value}"
    return value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _decoded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_decoded(part) for part in value]
    if isinstance(value, str) and value.lstrip("\\") in _NOT_FINITE:
        return _NOT_FINITE.get(value, value[1:])
    return value


def write_json(path: Path, value: Any) -> None:
    """Writes `value` to `path` as indented JSON, atomically."""
    write_text(path, to_json(value))


def read_json(path: Path) -> Any:
    """Reads JSON; raises ValueError with the path if the file is invalid."""
    path = pathlib.Path(path)
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}): it was cut short or edited."
        ) from None
