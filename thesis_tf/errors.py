"""The errors for bad arguments: what was expected, what was received, what to do.

`ArgumentError.argument` is the name of the argument in the library, from which a program can
determine the flag.
"""

from typing import Any


class ArgumentError(Exception):
    """A bad argument; also a `ValueError`, a `TypeError` or an `OSError`.

    Attributes:
        argument: the argument's name in the function that was called, None if the error is not
            about one argument.
    """

    argument: str | None = None

    def message_for(self, name: str) -> str:
        """Returns the message with another name for the argument, e.g. that of a flag."""
        message = str(self)
        quoted = f"`{self.argument}`"
        if self.argument is None or not message.startswith(quoted):
            return message
        return name + message.removeprefix(quoted)


class ArgumentValueError(ArgumentError, ValueError):
    """An argument whose value can't be used."""

    # AutoGraph checks this to determine whether it can raise the class with a longer message.
    __init__ = Exception.__init__


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument of a type that can't be used."""

    __init__ = Exception.__init__


class ArgumentFileNotFoundError(ArgumentError, FileNotFoundError):
    """An argument that names a file or a folder that does not exist."""


class ArgumentFileExistsError(ArgumentError, FileExistsError):
    """An argument that names a file or a folder that must not exist yet."""


class ArgumentOSError(ArgumentError, OSError):
    """An argument that names something that can't be reached."""


_KINDS: dict[type[Exception], type[Exception]] = {
    ValueError: ArgumentValueError,
    TypeError: ArgumentTypeError,
    FileNotFoundError: ArgumentFileNotFoundError,
    FileExistsError: ArgumentFileExistsError,
    OSError: ArgumentOSError,
}


def invalid(
    name: str,
    expected: str,
    received: Any,
    advice: str | None = None,
    *,
    kind: type[Exception] = ValueError,
) -> Exception:
    """Builds the exception for a bad argument; the caller raises it.

    Args:
        name: the argument as the caller wrote it, e.g. "`labels`".
        expected: a noun phrase, e.g. "integers in [0, 10)".
        received: what was received, as a noun phrase or a value.
        advice: a sentence that says what to do, or None.
        kind: the exception class. For `ValueError`, `TypeError` and the `OSError`s above, the
            corresponding `ArgumentError` is returned; its `argument` is the first name in
            backquotes.
    """
    message = f"{name} must be {expected}. Received: {received}."
    error = _KINDS.get(kind, kind)(f"{message} {advice}" if advice else message)
    if isinstance(error, ArgumentError) and name.startswith("`"):
        error.argument = name.split("`")[1]
    return error
