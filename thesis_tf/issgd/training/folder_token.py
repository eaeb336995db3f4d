"""A folder that one training at a time may hold, and the name of that training."""

import fcntl
import pathlib
import uuid

from thesis_tf.issgd.stores import RunTakenError

FILE = "token.txt"


class FolderToken:
    """A name that no other training has, kept in a folder that one at a time may hold.

    Of a run that goes on it is the name that it had: the claim of a master that was killed is still
    in the store, and this is the same master. The lock on the file goes with its process.

    Args:
        folder: where `token.txt` keeps it; None keeps nothing.

    Attributes:
        text: the name.

    Raises:
        RunTakenError: another training holds the folder.
    """

    def __init__(self, folder):
        self.text, self._folder, self._file = uuid.uuid4().hex, folder, None
        self.take()

    def take(self):
        """Locks the folder, if it is not locked by this token already."""
        if self._folder is None or self._file is not None:
            return
        path = pathlib.Path(self._folder) / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise RunTakenError(
                f"Another process trains in {self._folder}. Stop it, or choose another folder and"
                " another run id or name."
            ) from None
        self._file.seek(0)
        if found := self._file.read():
            self.text = found
        else:
            self._file.write(self.text)
            self._file.flush()

    def release(self):
        """Lets others have the folder."""
        if self._file is not None:
            self._file.close()
            self._file = None
