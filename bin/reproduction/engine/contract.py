"""What a figure's module is made of: settings, where data come from, claims and their verdicts."""

import dataclasses
import enum
import functools
import hashlib
import pathlib
from typing import TYPE_CHECKING, Any, Self, TypeAlias

if TYPE_CHECKING:
    from thesis_tf.datasets import Splits

# Examples of the three splits; None for all of one.
Counts: TypeAlias = tuple[int | None, int | None, int | None]

BUDGETS = ("quick", "full")

NO_NUMBER = "no number in the text"
# The thesis prints one, and those who wrote the claim down had no copy of it.
NOT_AT_HAND = "a number that is not quoted here"


class Verdict(enum.StrEnum):
    """Whether what the thesis says was found."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    CANNOT_TELL = "cannot be told at this budget"


@dataclasses.dataclass(frozen=True)
class Claim:
    """Something that the thesis says of a figure, beside what was measured.

    Attributes:
        sentence: the claim.
        thesis: the number that the thesis gives for it, or `NO_NUMBER`, or `NOT_AT_HAND`.
        measured: the number that was found, with its standard error where it has one.
        verdict: a `Verdict`.
    """

    sentence: str
    thesis: str
    measured: str
    verdict: Verdict


def verdict(holds: Any, *, told: Any = True) -> Verdict:
    """Returns the `Verdict` of a condition; `told` is whether this budget's numbers can tell."""
    if not told:
        return Verdict.CANNOT_TELL
    return Verdict.HOLDS if holds else Verdict.DOES_NOT_HOLD


def verdict_of_difference(difference: float, standard_error: float) -> Verdict:
    """Whether a difference that should be positive is, beyond two standard errors."""
    told = abs(difference) > 2 * standard_error
    return verdict(difference > 0, told=told)


@dataclasses.dataclass(frozen=True)
class Sources:
    """Where data and weights are that are not bundled.

    Attributes:
        data_dir: the folder with mnist.npz, cifar10.npz, and SVHN's .mat files.
        resnet50_weights: a .weights.h5 file of `keras.applications.ResNet50` with its top.
        inception_weights: a .weights.h5 file of `keras.applications.InceptionV3` without its top.
        faces: an .npz file of real-valued images, in place of the Toronto Face Database.
    """

    data_dir: str | None = None
    resnet50_weights: str | None = None
    inception_weights: str | None = None
    faces: str | None = None

    def paths(self, name: str) -> list[pathlib.Path]:
        """The files that `name` stands for; empty if no flag says where they are."""
        if name in _FILES:
            if not self.data_dir:
                return []
            return [pathlib.Path(self.data_dir) / file for file in _FILES[name]]
        path = getattr(self, name)
        return [pathlib.Path(path)] if path else []

    def has(self, name: str) -> bool:
        """Whether all files of `name` are there."""
        paths = self.paths(name)
        return bool(paths) and all(path.is_file() for path in paths)

    def missing(self, name: str) -> str:
        """Says which file is not there, and which flag would name it."""
        paths = [str(path) for path in self.paths(name) if not path.is_file()]
        if paths:
            return f"{' and '.join(paths)} (not there)"
        if name in _FILES:
            return f"{' and '.join(_FILES[name])} (--data_dir)"
        return f"--{name}"

    def load(self, name: str, examples: Counts | None = None, seed: int = 0) -> "Splits":
        """Returns the `Splits` of a data set: those bundled need no files.

        Args:
            name: mnist_mini, mnist, cifar10 or svhn.
            examples: (train, validation, test) to draw, or None for all.
            seed: of the draw.
        """
        from thesis_tf import datasets

        splits = datasets.load(name, data_dir=self.data_dir, seed=seed)
        if examples is not None:
            train, validation, test = examples
            splits = splits.take(train=train, validation=validation, test=test, seed=seed)
        return splits


_FILES: dict[str, tuple[str, ...]] = {
    "mnist": ("mnist.npz",),
    "cifar10": ("cifar10.npz",),
    "svhn": ("train_32x32.mat", "test_32x32.mat"),
}
SOURCES = (*_FILES, "resnet50_weights", "inception_weights", "faces")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the config of every figure and study has.

    Attributes:
        seed: of all that is random.
        needs: names of `SOURCES` without which it can't be computed.
        takes: names of `SOURCES` that it uses if they are there.
        needs_one_of: names of `SOURCES`, of which it uses the first that is there.
        sources: where these are; no part of what the config is, but what is in the files.
        expected_seconds: how long it takes on two cores, for the progress bar.
    """

    seed: int = 0
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    needs_one_of: tuple[str, ...] = ()
    sources: Sources = Sources()
    expected_seconds: float = 10.0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Free functions would need no guard, but a figure reads better with `config.settled(...)`,
        # and a study hands its own config on in the same way.
        super().__init_subclass__(**kwargs)
        for method in ("settled", "lacking", "plain"):
            if method in cls.__annotations__:
                raise TypeError(
                    f"{cls.__qualname__}.{method}: a field of this name would hide "
                    f"Settings.{method}(); give it another name."
                )

    def settled(self, sources: Sources, seed: int) -> Self:
        """Returns this config, and those in it, with other sources and another seed."""
        changes: dict[str, Any] = {"sources": sources, "seed": seed}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Settings):
                changes[field.name] = value.settled(sources, seed)
            elif isinstance(value, tuple) and any(isinstance(v, Settings) for v in value):
                changes[field.name] = tuple(v.settled(sources, seed) for v in value)
        return dataclasses.replace(self, **changes)

    def lacking(self) -> list[str]:
        """Says which files it needs that are not there: a list, empty if it can be computed."""
        sources = self.sources
        lacking = [sources.missing(name) for name in self.needs if not sources.has(name)]
        if self.needs_one_of and not any(map(sources.has, self.needs_one_of)):
            lacking.append(" or ".join(map(sources.missing, self.needs_one_of)))
        return lacking

    def plain(self) -> dict[str, Any]:
        """Returns what this config is as JSON holds it: contents of files, and not their paths."""
        plain = {
            field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name not in _NOT_WHAT_IT_IS
        }
        there = [name for name in self.needs_one_of if self.sources.has(name)]
        used = [*self.needs, *filter(self.sources.has, self.takes), *there[:1]]
        files = {name: [_digest(path) for path in self.sources.paths(name)] for name in used}
        return plain | ({"files": files} if files else {})


_NOT_WHAT_IT_IS = ("sources", "expected_seconds", "needs", "takes", "needs_one_of")


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.plain()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (tuple, list)) else value


def _digest(path: pathlib.Path) -> str:
    status = path.stat()
    return _digest_of(str(path), status.st_size, status.st_mtime_ns)


@functools.cache
def _digest_of(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
