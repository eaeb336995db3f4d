import dataclasses

import numpy as np
import pytest

from bin.reproduction.engine import contract
from bin.reproduction.engine.contract import Settings, Sources, Verdict


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study(Settings):
    steps: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    study: Study = Study()
    rows: tuple = (Study(steps=1), Study(steps=2))
    sigmas: tuple = (0.1, 0.2)


def test_verdicts():
    assert contract.verdict(True) is Verdict.HOLDS
    assert contract.verdict(np.False_) is Verdict.DOES_NOT_HOLD
    assert contract.verdict(True, told=False) is Verdict.CANNOT_TELL
    assert contract.verdict_of_difference(1.0, 0.4) is Verdict.HOLDS
    assert contract.verdict_of_difference(1.0, 0.6) is Verdict.CANNOT_TELL
    assert contract.verdict_of_difference(-1.0, 0.4) is Verdict.DOES_NOT_HOLD
    assert contract.verdict_of_difference(np.nan, 0.4) is Verdict.CANNOT_TELL


@pytest.mark.parametrize("method", ["lacking", "plain", "settled"])
def test_a_field_may_not_hide_a_method(method):
    with pytest.raises(TypeError, match=rf"Hiding\.{method}.*another name"):
        type("Hiding", (Settings,), {"__annotations__": {method: int}})


def test_seed_and_sources_reach_the_studies_within():
    sources = Sources(data_dir="there")
    config = Config().settled(sources, 7)
    for part in (config, config.study, *config.rows):
        assert part.seed == 7
        assert part.sources is sources
    assert config.rows[1].steps == 2
    assert config.sigmas == (0.1, 0.2)


def test_a_config_is_known_by_contents_of_files_and_not_by_paths(tmp_path):
    for folder, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mnist.npz").write_text(text)

    def plain(folder, **kwargs):
        sources = Sources(data_dir=str(tmp_path / folder))
        return Config(sources=sources, **kwargs).plain()

    assert plain("a", needs=("mnist",)) == plain("b", needs=("mnist",))
    assert plain("a", needs=("mnist",)) != plain("c", needs=("mnist",))
    assert plain("a") == plain("c") == Config(expected_seconds=99).plain()
    # Optional data count if they exist.
    assert plain("a", takes=("mnist", "svhn")) != plain("c", takes=("mnist", "svhn"))
    assert plain("a", takes=("svhn",)) == plain("a")
    assert Config(rows=(Study(steps=9),)).plain()["rows"] == [{"seed": 0, "steps": 9}]


def test_one_of_several_sources(tmp_path):
    for name in ("faces.npz", "cifar10.npz"):
        (tmp_path / name).write_text(name)
    faces, cifar = {"faces": str(tmp_path / "faces.npz")}, {"data_dir": str(tmp_path)}

    def config(**sources):
        return Config(needs_one_of=("faces", "cifar10"), sources=Sources(**sources))

    assert config().lacking() == ["--faces or cifar10.npz (--data_dir)"]
    assert config(**faces).lacking() == config(**cifar).lacking() == []
    # Of several existing alternatives, the first counts.
    assert config(**faces, **cifar).plain() == config(**faces).plain()
    assert config(**faces).plain() != config(**cifar).plain() != config().plain()


def test_what_is_lacking_is_what_is_needed_and_not_there(tmp_path):
    assert Config(needs=("mnist", "faces"), takes=("svhn",)).lacking() == [
        "mnist.npz (--data_dir)", "--faces",
    ]  # fmt: skip
    assert Config().lacking() == []


def test_a_file_that_changes_is_another(tmp_path):
    path = tmp_path / "w.h5"
    path.write_text("1")
    config = Config(needs=("resnet50_weights",), sources=Sources(resnet50_weights=str(path)))
    before = config.plain()
    path.write_text("22")
    assert config.plain() != before


def test_what_is_missing_is_named(tmp_path):
    (tmp_path / "train_32x32.mat").touch()
    sources = Sources(data_dir=str(tmp_path), faces=str(tmp_path / "f.npz"))
    assert not sources.has("svhn")
    assert sources.missing("svhn") == f"{tmp_path / 'test_32x32.mat'} (missing)"
    assert sources.missing("faces") == f"{tmp_path / 'f.npz'} (missing)"
    assert Sources().missing("svhn") == "train_32x32.mat and test_32x32.mat (--data_dir)"
    assert Sources().missing("resnet50_weights") == "--resnet50_weights"
    (tmp_path / "test_32x32.mat").touch()
    assert sources.has("svhn")


def test_bundled_data_need_no_files():
    splits = Sources().load("mnist_mini", (50, 20, 10))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [50, 20, 10]


@pytest.mark.parametrize("name", contract.SOURCES)
def test_nothing_is_there_by_default(name):
    assert not Sources().has(name)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({}, []),
        ({"notes": ["n"], "warnings": []}, []),
        ({"warnings": ["a", "b"]}, ["a", "b"]),
        ({"rows": [{"warnings": ["a"]}, {"x": {"warnings": ["b", "a"]}}]}, ["a", "b"]),
        ({"moments": ({"report": {"warnings": ["a"]}},), "warnings": ["c"]}, ["c", "a"]),
        ({"text": "warnings", "array": np.ones(3)}, []),
    ],
)
def test_doubts_anywhere_in_a_result(result, expected):
    assert contract.warnings_of(result) == expected
