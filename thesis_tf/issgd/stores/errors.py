"""Errors of a store, by what the caller can do about them."""


class StoreError(Exception):
    """The store's contents are damaged; the base of all errors of this package."""


class StoreUnavailableError(StoreError):
    """The store can't be reached or can't answer now: try again later."""


class RunNotFoundError(StoreError):
    """The run was not created yet, was deleted or replaced, or was lost with a restarted server."""


class RunMismatchError(StoreError, ValueError):
    """The existing run has another model, other data, other sizes or another format."""


class RunTakenError(StoreError):
    """Another master holds the run."""


class StoreRefusedError(StoreError, ValueError):
    """The store rejects this client, or the server isn't a store: retrying won't help."""
