"""A cache of computed results and drawn figures.

Each entry is named by a hash of everything on which it depends:

    results/fig_3_4-HASH    a result; HASH is of the config, the contents of data files, and the
                            code that computes
    shown/fig_3_4-HASH      image, claims and texts; HASH also includes the code that draws and
                            judges
    studies/NAME-HASH       computations that several figures share (see `study_cache`)
    logs/fig_3_4.log        the printed output of the computation

So after a change of a caption, a figure is drawn again, but no network is trained. Several machines
may share the folder; every entry is either complete or absent.
"""

import dataclasses
import pathlib
from typing import Any

from bin.reproduction.engine import code_hash
from bin.reproduction.engine.catalogue import Figure
from bin.reproduction.engine.contract import Claim, Settings, Verdict
from thesis_tf.persistence import files, fingerprint

PICTURE, SHOWN = "picture.png", "shown.json"
_END_OF_PNG = b"IEND\xaeB`\x82"


@dataclasses.dataclass(frozen=True)
class Machine:
    """The machine on which a figure was computed."""

    processor: str
    cores: int | None
    memory_gib: int
    accelerators: tuple[str, ...]
    system: str


@dataclasses.dataclass(frozen=True)
class Made:
    """How a result was computed.

    Attributes:
        seconds: the computation time.
        studies: {name: seconds}, the full computation times of the studies that it used.
        threads: the number of threads.
        date: the time of the computation, in UTC.
        versions: {package: version}.
        machine: the machine on which it was computed.
    """

    seconds: float
    studies: dict[str, float]
    threads: int
    date: str
    versions: dict[str, str]
    machine: Machine

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-serializable dict."""
        data = dataclasses.asdict(self)
        data["machine"]["accelerators"] = list(self.machine.accelerators)
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Made":
        """Reads a result of `to_json`; additional keys are ignored."""
        machine = data["machine"]
        found = {field.name: data[field.name] for field in dataclasses.fields(cls)}
        accelerators = tuple(machine["accelerators"])
        return cls(**{**found, "machine": Machine(**{**machine, "accelerators": accelerators})})


@dataclasses.dataclass(frozen=True)
class Shown:
    """The texts of a figure in the report.

    Attributes:
        title, caption: `TITLE` and `CAPTION` of its module.
        claims: the claims with their verdicts.
        notes: notes of its result, which follow the caption.
        warnings: sentences that say why not to trust its result.
        settings: the settings of its config, a JSON-serializable dict.
        made: how its result was computed.
    """

    title: str
    caption: str
    claims: tuple[Claim, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    settings: dict[str, Any]
    made: Made

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-serializable dict, which includes the items of `made`."""
        return {
            "title": self.title,
            "caption": self.caption,
            "claims": [dataclasses.asdict(claim) for claim in self.claims],
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "settings": self.settings,
            **self.made.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Shown":
        """Reads a result of `to_json`; raises KeyError, TypeError or ValueError for other dicts."""
        claims = [{**claim, "verdict": Verdict(claim["verdict"])} for claim in data["claims"]]
        return cls(
            data["title"],
            data["caption"],
            tuple(Claim(**claim) for claim in claims),
            tuple(data["notes"]),
            tuple(data["warnings"]),
            data["settings"],
            Made.from_json(data),
        )


@dataclasses.dataclass(frozen=True)
class Cache:
    """The folder of the cache.

    Attributes:
        folder: its path.
    """

    folder: pathlib.Path

    @property
    def studies(self) -> pathlib.Path:
        """The folder of studies."""
        return self.folder / "studies"

    @property
    def logs(self) -> pathlib.Path:
        """The folder of logs."""
        return self.folder / "logs"

    def log(self, figure: Figure) -> pathlib.Path:
        """The path of a figure's log."""
        return self.logs / f"{figure.slug}.log"

    def result(self, figure: Figure, config: Settings) -> pathlib.Path:
        """Returns the path of a figure's result, whether or not it exists."""
        made_by = code_hash.of_module(figure.module, showing=False)
        return self.folder / "results" / f"{figure.slug}-{_hash(config.plain(), made_by)}"

    def shown(self, figure: Figure, config: Settings) -> pathlib.Path:
        """Returns the path of a figure's image, claims and texts, whether or not they exist."""
        made_by = (
            code_hash.of_module(figure.module, showing=False),
            code_hash.of_module(figure.module),
        )
        return self.folder / "shown" / f"{figure.slug}-{_hash(config.plain(), made_by)}"

    def read(self, figure: Figure, config: Settings) -> Shown | None:
        """Returns the content of `shown`, or None if it doesn't exist or is incomplete."""
        path = self.shown(figure, config)
        try:
            shown = Shown.from_json(files.read_json(path / SHOWN))
            picture = (path / PICTURE).read_bytes()
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            return None
        return shown if picture.endswith(_END_OF_PNG) else None


def _hash(config: dict[str, Any], made_by: str | tuple[str, ...]) -> str:
    return fingerprint.of_json({"config": config, "code": made_by})[:16]
