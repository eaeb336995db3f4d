"""What can go wrong with a store, by what the caller can do about it."""


class StoreError(Exception):
    """The store does not hold what it should; the base of all errors of this package."""


class StoreUnavailableError(StoreError):
    """The store can't be reached, or not now: try again later."""


class RunNotFoundError(StoreError):
    """The run isn't there: not created yet, deleted, replaced, or lost with a restarted server."""


class RunMismatchError(StoreError, ValueError):
    """The run there is of another model, other data, other sizes or another format."""


class RunTakenError(StoreError):
    """Another master holds the run."""


class StoreRefusedError(StoreError, ValueError):
    """The store refuses this client, or is no store at all: trying again won't help."""
