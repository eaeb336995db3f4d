"""What was computed and drawn, each under the hash of all that made it.

    results/fig_3_4-HASH    of the config, the contents of data files, and the code that computes
    shown/fig_3_4-HASH      of that, and the code that draws and judges: picture, claims, texts
    studies/NAME-HASH       what several figures share (see `study_cache`)
    logs/fig_3_4.log        what was printed meanwhile

So a changed caption draws a figure anew and trains no network. The folder may be shared by several
machines; every entry is whole or not there.
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
    """What a figure was computed on."""

    processor: str
    cores: int | None
    memory_gib: int
    accelerators: tuple[str, ...]
    system: str


@dataclasses.dataclass(frozen=True)
class Made:
    """How a result was computed.

    Attributes:
        seconds: how long it took.
        studies: {name: seconds} of the studies that it used, each in full.
        threads: how many it computed with.
        date: when, in UTC.
        versions: {package: version}.
        machine: on what.
    """

    seconds: float
    studies: dict[str, float]
    threads: int
    date: str
    versions: dict[str, str]
    machine: Machine

    def to_json(self) -> dict[str, Any]:
        """Returns this as JSON holds it."""
        data = dataclasses.asdict(self)
        data["machine"]["accelerators"] = list(self.machine.accelerators)
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Made":
        """Reads what `to_json` returned; more keys do no harm."""
        machine = data["machine"]
        found = {field.name: data[field.name] for field in dataclasses.fields(cls)}
        accelerators = tuple(machine["accelerators"])
        return cls(**{**found, "machine": Machine(**{**machine, "accelerators": accelerators})})


@dataclasses.dataclass(frozen=True)
class Shown:
    """What the report shows of a figure, besides its picture.

    Attributes:
        title, caption: of its module.
        claims: with their verdicts.
        notes: what its result adds to the caption.
        settings: of its config, as JSON holds them.
        made: how its result was computed.
    """

    title: str
    caption: str
    claims: tuple[Claim, ...]
    notes: tuple[str, ...]
    settings: dict[str, Any]
    made: Made

    def to_json(self) -> dict[str, Any]:
        """Returns this as JSON holds it, in one dict with how it was made."""
        return {
            "title": self.title,
            "caption": self.caption,
            "claims": [dataclasses.asdict(claim) for claim in self.claims],
            "notes": list(self.notes),
            "settings": self.settings,
            **self.made.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Shown":
        """Reads what `to_json` returned; raises KeyError, TypeError or ValueError for others."""
        claims = [{**claim, "verdict": Verdict(claim["verdict"])} for claim in data["claims"]]
        return cls(
            data["title"],
            data["caption"],
            tuple(Claim(**claim) for claim in claims),
            tuple(data["notes"]),
            data["settings"],
            Made.from_json(data),
        )


@dataclasses.dataclass(frozen=True)
class Cache:
    """A folder of finished work.

    Attributes:
        folder: its path.
    """

    folder: pathlib.Path

    @property
    def studies(self) -> pathlib.Path:
        """The folder of what several figures share."""
        return self.folder / "studies"

    @property
    def logs(self) -> pathlib.Path:
        """The folder of logs."""
        return self.folder / "logs"

    def log(self, figure: Figure) -> pathlib.Path:
        """The path of a figure's log."""
        return self.logs / f"{figure.slug}.log"

    def result(self, figure: Figure, config: Settings) -> pathlib.Path:
        """The path of a figure's result, there or not."""
        made_by = code_hash.of_module(figure.module, showing=False)
        return self.folder / "results" / f"{figure.slug}-{_hash(config.plain(), made_by)}"

    def shown(self, figure: Figure, config: Settings) -> pathlib.Path:
        """The path of a figure's picture, claims and texts, there or not."""
        made_by = (
            code_hash.of_module(figure.module, showing=False),
            code_hash.of_module(figure.module),
        )
        return self.folder / "shown" / f"{figure.slug}-{_hash(config.plain(), made_by)}"

    def read(self, figure: Figure, config: Settings) -> Shown | None:
        """Returns what `shown` holds, or None if it isn't there, or not whole."""
        path = self.shown(figure, config)
        try:
            shown = Shown.from_json(files.read_json(path / SHOWN))
            picture = (path / PICTURE).read_bytes()
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            return None
        return shown if picture.endswith(_END_OF_PNG) else None


def _hash(config: dict[str, Any], made_by: str | tuple[str, ...]) -> str:
    return fingerprint.of_json({"config": config, "code": made_by})[:16]
