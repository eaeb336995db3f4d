"""The parts of a figure's module: settings, sources of data, claims and verdicts."""

import dataclasses
import enum
import functools
import hashlib
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self, TypeAlias

if TYPE_CHECKING:
    from thesis_tf.datasets import Splits

# The numbers of examples of the three splits; None for all of a split.
Counts: TypeAlias = tuple[int | None, int | None, int | None]

BUDGETS = ("quick", "full")

NO_NUMBER = "no number in the text"
# The thesis gives a number, but it was not available when the claim was written down.
NOT_AT_HAND = "a number that is not quoted here"


class Verdict(enum.StrEnum):
    """Whether a claim of the thesis was confirmed."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    CANNOT_TELL = "cannot be told at this budget"
    CANNOT_COMPARE = "cannot be compared"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of the thesis about a figure, with the measured values.

    Attributes:
        sentence: the claim.
        thesis: the number in the thesis, or `NO_NUMBER`, or `NOT_AT_HAND`.
        measured: the measured number, with its standard error if there is one.
        verdict: a `Verdict`.
    """

    sentence: str
    thesis: str
    measured: str
    verdict: Verdict


def verdict(holds: Any, *, told: Any = True) -> Verdict:
    """Returns the `Verdict` of a condition; if `told` is false, it is `CANNOT_TELL`."""
    if not told:
        return Verdict.CANNOT_TELL
    return Verdict.HOLDS if holds else Verdict.DOES_NOT_HOLD


def verdict_of_difference(difference: float, standard_error: float) -> Verdict:
    """Returns the `Verdict` that a difference is positive, with a margin of two standard errors."""
    told = abs(difference) > 2 * standard_error
    return verdict(difference > 0, told=told)


def warnings_of(result: Any) -> list[str]:
    """Returns the sentences that say why not to trust a figure's result.

    They are the lists of strings named "warnings" in it and in dicts and lists that it contains,
    such as those of a probes' report.
    """
    found: list[str] = []
    if isinstance(result, Mapping):
        found += result.get("warnings", [])
        result = result.values()
    elif not isinstance(result, list | tuple):
        return []
    for part in result:
        found += warnings_of(part)
    return list(dict.fromkeys(found))


@dataclasses.dataclass(frozen=True)
class Sources:
    """The paths of data and weights that are not bundled.

    Attributes:
        data_dir: the folder with mnist.npz, cifar10.npz, and SVHN's .mat files.
        resnet50_weights: a .weights.h5 file of `keras.applications.ResNet50` with its top.
        inception_weights: a .weights.h5 file of `keras.applications.InceptionV3` without its top.
        faces: an .npz file of real-valued images, instead of the Toronto Face Database.
    """

    data_dir: str | None = None
    resnet50_weights: str | None = None
    inception_weights: str | None = None
    faces: str | None = None

    def paths(self, name: str) -> list[pathlib.Path]:
        """Returns the files of `name`; empty if the flag that locates them isn't given."""
        if name in _FILES:
            if not self.data_dir:
                return []
            return [pathlib.Path(self.data_dir) / file for file in _FILES[name]]
        path = getattr(self, name)
        return [pathlib.Path(path)] if path else []

    def has(self, name: str) -> bool:
        """Returns whether all files of `name` exist."""
        paths = self.paths(name)
        return bool(paths) and all(path.is_file() for path in paths)

    def missing(self, name: str) -> str:
        """Returns a phrase that names the missing files, or the flag that is missing."""
        paths = [str(path) for path in self.paths(name) if not path.is_file()]
        if paths:
            return f"{' and '.join(paths)} (missing)"
        if name in _FILES:
            return f"{' and '.join(_FILES[name])} (--data_dir)"
        return f"--{name}"

    def load(self, name: str, examples: Counts | None = None, seed: int = 0) -> "Splits":
        """Returns the `Splits` of a data set; bundled data need no files.

        Args:
            name: mnist_mini, mnist, cifar10 or svhn.
            examples: the numbers of (train, validation, test) examples to draw, or None for all.
            seed: the seed of the draw.
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
    """The common settings of all figures and studies.

    Attributes:
        seed: the seed of all random numbers.
        needs: names of `SOURCES` that are required.
        takes: names of `SOURCES` that are used if they exist.
        needs_one_of: names of `SOURCES`; the first that exists is used.
        sources: the paths of `SOURCES`. The contents of their files are part of the config's
            hash, their paths are not.
        expected_seconds: the expected computation time on two cores, for the progress bar.
    """

    seed: int = 0
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    needs_one_of: tuple[str, ...] = ()
    sources: Sources = Sources()
    expected_seconds: float = 10.0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Methods can be hidden by fields of subclasses, so this is checked.
        super().__init_subclass__(**kwargs)
        for method in ("settled", "lacking", "plain"):
            if method in cls.__annotations__:
                raise TypeError(
                    f"{cls.__qualname__}.{method}: a field of this name would hide "
                    f"Settings.{method}(); give it another name."
                )

    def settled(self, sources: Sources, seed: int) -> Self:
        """Returns this config and its nested configs with other sources and another seed."""
        changes: dict[str, Any] = {"sources": sources, "seed": seed}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Settings):
                changes[field.name] = value.settled(sources, seed)
            elif isinstance(value, tuple) and any(isinstance(v, Settings) for v in value):
                changes[field.name] = tuple(v.settled(sources, seed) for v in value)
        return dataclasses.replace(self, **changes)

    def lacking(self) -> list[str]:
        """Returns a list of phrases on required files that are missing; empty if there are none."""
        sources = self.sources
        lacking = [sources.missing(name) for name in self.needs if not sources.has(name)]
        if self.needs_one_of and not any(map(sources.has, self.needs_one_of)):
            lacking.append(" or ".join(map(sources.missing, self.needs_one_of)))
        return lacking

    def plain(self) -> dict[str, Any]:
        """Returns a JSON-serializable dict, with fingerprints of files instead of their paths."""
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
