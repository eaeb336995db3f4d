"""The inputs of a run: checks that a run continues with the inputs with which it began."""

import pathlib
from collections.abc import Mapping

from thesis_tf.persistence import files

_NAME = "inputs.json"


def check(folder: pathlib.Path, fingerprints: Mapping[str, str], *, write: bool = True) -> None:
    """Compares the inputs of a run with those of earlier calls in the same folder.

    Args:
        folder: the folder of the run.
        fingerprints: {name of an input: fingerprint of its content}.
        write: whether to save the fingerprints for later calls; of several workers, only the chief
            does.

    Raises:
        ValueError: an earlier call had other inputs under the same names.
    """
    path = folder / _NAME
    kept = files.read_json(path) if path.exists() else fingerprints
    differing = [name for name, value in fingerprints.items() if kept.get(name) != value]
    if differing:
        raise ValueError(
            f"The {' and the '.join(differing)} changed since the run in {folder} began. Choose"
            " another --output_dir, or delete that one."
        )
    if write:
        files.write_json(path, dict(fingerprints))
