"""What was computed and drawn, each under the hash of all that made it.

    results/fig_3_4-HASH    of the config, the contents of data files, and the code that computes
    shown/fig_3_4-HASH      of that, and the code that draws and judges: picture, claims, texts
    studies/NAME-HASH       what several figures share (see `studies`)
    logs/fig_3_4.log        what was printed meanwhile

So a changed caption draws a figure anew and trains no network. The folder may be shared by several
machines; every entry is whole or not there.
"""

import dataclasses
import pathlib

from bin.reproduction.engine import code_hash
from thesis_tf.persistence import files, fingerprint

PICTURE, SHOWN = "picture.png", "shown.json"
_END_OF_PNG = b"IEND\xaeB`\x82"


@dataclasses.dataclass(frozen=True)
class Cache:
    """A folder of finished work.

    Attributes:
        folder: its path.
    """

    folder: pathlib.Path

    @property
    def studies(self):
        """The folder of what several figures share."""
        return self.folder / "studies"

    @property
    def logs(self):
        """The folder of logs."""
        return self.folder / "logs"

    def log(self, figure):
        """The path of a figure's log."""
        return self.logs / f"{figure.slug}.log"

    def result(self, figure, config):
        """The path of a figure's result, there or not."""
        made_by = code_hash.of_module(figure.module, showing=False)
        return self.folder / "results" / f"{figure.slug}-{_hash(config.plain(), made_by)}"

    def shown(self, figure, config):
        """The path of a figure's picture, claims and texts, there or not."""
        made_by = (
            code_hash.of_module(figure.module, showing=False),
            code_hash.of_module(figure.module),
        )
        return self.folder / "shown" / f"{figure.slug}-{_hash(config.plain(), made_by)}"

    def read(self, figure, config):
        """Returns what `shown` holds as a dict, or None if it isn't there, or not whole."""
        path = self.shown(figure, config)
        try:
            shown, picture = files.read_json(path / SHOWN), (path / PICTURE).read_bytes()
        except (ValueError, FileNotFoundError):
            return None
        return shown if shown and picture.endswith(_END_OF_PNG) else None


def _hash(config, made_by):
    return fingerprint.of_json({"config": config, "code": made_by})[:16]
