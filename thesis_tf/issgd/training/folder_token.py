"""A folder that one training at a time may hold, and the name of that training."""

import contextlib
import pathlib
import uuid
from types import TracebackType
from typing import Self

from thesis_tf._core.types import Path
from thesis_tf.issgd.stores import RunTakenError
from thesis_tf.persistence import locks

FILE = "token.txt"


class FolderToken:
    """A unique name of a training, kept in a folder that one training at a time may hold.

    A resumed training keeps its name, because the killed master's claim is still in the store. The
    lock on the file ends with its process. A `with` statement holds the folder. A nested `with`
    statement changes nothing, and the first statement that ends releases the folder.

    Args:
        folder: the folder, which has the name in `token.txt`; None saves nothing.

    Attributes:
        text: the name.

    Raises:
        RunTakenError: on entry, if another training holds the folder.
    """

    def __init__(self, folder: Path | None) -> None:
        self.text = uuid.uuid4().hex
        self._folder = folder
        self._held = contextlib.ExitStack()
        self._is_held = False

    def __enter__(self) -> Self:
        """Locks the folder, unless this token already holds it."""
        if self._folder is None or self._is_held:
            return self
        try:
            file = self._held.enter_context(
                locks.locked(pathlib.Path(self._folder) / FILE, wait=False)
            )
        except locks.LockedError:
            raise RunTakenError(
                f"Another process trains in {self._folder}. Stop it, or choose another folder and"
                " another run id or name."
            ) from None
        self._is_held = True
        file.seek(0)
        if found := file.read():
            self.text = found
        else:
            file.write(self.text)
            file.flush()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Releases the folder."""
        self._is_held = False
        self._held.close()
