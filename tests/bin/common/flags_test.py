"""`define` and `read`: flags are generated from the fields of a dataclass."""

import dataclasses
import os
import pathlib
import subprocess
import sys
from typing import Literal

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from bin.common import flags
from bin.common.flags import option

FLAGS = absl_flags.FLAGS
ROOT = pathlib.Path(__file__).parents[3]


@dataclasses.dataclass(frozen=True)
class Network:
    flags_test_layers: tuple[int, ...] = option((10, 5), "Units.")
    flags_test_file: str = option("none", "Weights.", several=True, is_path=True)


@dataclasses.dataclass(frozen=True)
class Schedule:
    flags_test_epochs: int = option(flags.BY_PROGRAM, "Passes.", lower_bound=1)
    flags_test_rate: float | None = option(None, "Of learning.", lower_bound=0, upper_bound=1)


@dataclasses.dataclass(frozen=True)
class Config:
    network: Network
    schedule: Schedule
    computed: str
    flags_test_kind: Literal["a", "b"] = option("a", "Which.")
    flags_test_fit: Literal["x", "y"] | None = option(None, "How.")
    flags_test_deep: bool = option(False, "Whether.")
    flags_test_name: str | None = option(
        None, "A name.", valid=lambda name: name != "", message="must have letters"
    )


@dataclasses.dataclass(frozen=True)
class Several:
    networks: tuple[Network, ...]


flags.define(__name__, Config, defaults={"flags_test_epochs": 7})
flags.define(__name__, Several)


def parsed(*arguments):
    """Returns the config of a command line."""
    with flagsaver.flagsaver():
        FLAGS(["program", *arguments])
        return flags.read(Config, computed="here")


def test_what_nobody_gives_is_the_default():
    expected = Config(Network(), Schedule(7), "here")
    assert parsed() == expected
    assert expected.network == Network((10, 5), "none")


def test_what_is_given_is_read_with_the_type_of_its_field():
    found = parsed(
        "--flags_test_layers=1,2,3",
        "--flags_test_file=~/a",
        "--flags_test_epochs=3",
        "--flags_test_rate=0.5",
        "--flags_test_kind=b",
        "--flags_test_fit=y",
        "--flags_test_deep",
        "--flags_test_name=n",
    )
    network = Network((1, 2, 3), flags.expanded("~/a"))
    assert found == Config(network, Schedule(3, 0.5), "here", "b", "y", True, "n")
    assert "~" not in found.network.flags_test_file


def test_values_of_the_program_come_before_flags():
    with flagsaver.flagsaver(flags_test_epochs=3):
        found = flags.read(Config, computed="here", flags_test_epochs=9, network=Network((1,)))
    assert found.schedule.flags_test_epochs == 9
    assert found.network.flags_test_layers == (1,)
    with pytest.raises(TypeError, match="Config has no fields nosuch"):
        flags.read(Config, nosuch=1)


def test_one_config_for_each_of_several_values():
    with flagsaver.flagsaver(flags_test_file=["a", "b"]):
        assert flags.read(Several).networks == (Network((10, 5), "a"), Network((10, 5), "b"))
        with pytest.raises(flags.UsageError, match="--flags_test_file takes only one value"):
            flags.read(Config, computed="here")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--flags_test_rate=2", "not a number in the range"),
        ("--flags_test_epochs=0", "not a positive integer"),
        ("--flags_test_kind=c", "should be one of"),
        ("--flags_test_fit=c", "should be one of"),
        ("--flags_test_name=", "must have letters"),
        ("--flags_test_layers=1,b", "must be numbers separated by commas"),
    ],
)
def test_values_that_cannot_be_used(argument, message):
    with pytest.raises(absl_flags.IllegalFlagValueError, match=message):
        parsed(argument)


def test_a_flag_that_is_given_its_default_is_given():
    assert not flags.given("flags_test_kind")
    with flagsaver.flagsaver():
        FLAGS(["program", "--flags_test_kind=a"])
        assert flags.given("flags_test_kind")


def test_given_flags_are_arguments_of_another_program():
    given = ["--flags_test_layers=1,2", "--noflags_test_deep", "--flags_test_name=a b"]
    with flagsaver.flagsaver():
        FLAGS(["program", "--flags_test_rate=0.5", *given])
        names = ("flags_test_layers", "flags_test_deep", "flags_test_kind", "flags_test_name")
        assert flags.as_arguments(names) == given


def test_names():
    assert flags.names(Schedule) == ("flags_test_epochs", "flags_test_rate")
    assert flags.names(Config)[:2] == flags.names(Network)
    assert flags.names(Several) == flags.names(Network)


def test_an_option_is_defined_once_and_differing_ones_are_refused():
    @dataclasses.dataclass(frozen=True)
    class Same:
        flags_test_deep: bool = option(False, "Whether.")

    @dataclasses.dataclass(frozen=True)
    class Other:
        flags_test_deep: bool = option(True, "Whether.")

    flags.define(__name__, Same)
    with pytest.raises(ValueError, match="another option already defines --flags_test_deep"):
        flags.define(__name__, Other)


def test_flags_that_a_program_leaves_out():
    @dataclasses.dataclass(frozen=True)
    class Mine:
        schedule: Schedule
        flags_test_unused: int = option(4, "Not here.")

    flags.define(
        __name__,
        Mine,
        leave_out=["flags_test_unused", "flags_test_epochs"],
        defaults={"flags_test_epochs": 0},
    )
    assert "flags_test_unused" not in FLAGS
    with flagsaver.flagsaver(flags_test_epochs=3):
        assert flags.read(Mine) == Mine(Schedule(0))
    with pytest.raises(ValueError, match="has no options nosuch"):
        flags.define(__name__, Mine, leave_out=["nosuch"])


def test_a_default_that_no_program_gave():
    with pytest.raises(TypeError, match="--flags_test_epochs has no default"):
        flags.read(Schedule)


def test_help_shows_a_program_its_flags_with_its_defaults(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        '"""A program."""\n'
        "import dataclasses\nfrom absl import app\nfrom bin.common import configs, flags\n"
        "@dataclasses.dataclass(frozen=True)\nclass Config:\n    training: configs.Training\n"
        "flags.define(__name__, Config, defaults={'epochs': 9}, leave_out=['optimizer'])\n"
        "app.run(lambda argv: print(flags.read(Config)))\n"
    )

    def said(*arguments):
        command = [sys.executable, program, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, capture_output=True, text=True, env=environment).stdout

    shown = said("--help")
    assert "(default: '9')" in shown
    assert "--batch_size" in shown
    assert "--optimizer" not in shown
    assert "--dataset" not in shown
    read = said("--snapshots=1,2")
    assert "batch_size=128, optimizer='adam', learning_rate=0.001, epochs=9" in read
    assert "snapshots=(1, 2)" in read
