"""The stores between master, workers and peers of importance-sampling SGD (thesis, chapter 7)."""

from thesis_tf.issgd.stores.blocks import Blocks, worker_hash
from thesis_tf.issgd.stores.errors import (
    RunMismatchError,
    RunNotFoundError,
    RunTakenError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from thesis_tf.issgd.stores.parameters import PublishedParameters
from thesis_tf.issgd.stores.run_spec import FORMAT, RunSpec
from thesis_tf.issgd.stores.store import Store
from thesis_tf.issgd.stores.urls import open_store

__all__ = [
    "FORMAT",
    "Blocks",
    "PublishedParameters",
    "RunMismatchError",
    "RunNotFoundError",
    "RunSpec",
    "RunTakenError",
    "Store",
    "StoreError",
    "StoreRefusedError",
    "StoreUnavailableError",
    "open_store",
    "worker_hash",
]
