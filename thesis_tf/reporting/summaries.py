"""Scalars and images for TensorBoard."""

import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf


class SummaryWriter:
    """Writes scalars and images under a folder that TensorBoard watches.

    Args:
        log_dir: the folder, which is created with the first entry; None writes nothing.
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None) -> None:
        self._log_dir = log_dir
        self._writer: tf.summary.SummaryWriter | None = None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes scalars {name: value} of a step."""
        if self._log_dir is not None and values:
            with self._opened().as_default(step=step):
                for name, value in values.items():
                    tf.summary.scalar(name, value)
            self._opened().flush()

    def images(self, step: int, name: str, images: np.ndarray) -> None:
        """Writes images (n, height, width, channels) in [0, 1] of a step."""
        if self._log_dir is not None:
            with self._opened().as_default(step=step):
                tf.summary.image(name, np.clip(images, 0, 1), max_outputs=len(images))
            self._opened().flush()

    def close(self) -> None:
        """Closes the file; another entry opens a new one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _opened(self) -> tf.summary.SummaryWriter:
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self._log_dir))
        return self._writer
