import dataclasses
import pathlib

import numpy as np
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

import models
from bin.common import configs, flags
from thesis_tf import datasets, hardware

FLAGS = absl_flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Config:
    data: configs.Data
    networks: tuple[configs.Model, ...]
    hardware: configs.Hardware
    training: configs.Training
    chains: configs.ChainOptions


flags.define(__name__, Config, configs.Output, defaults={"epochs": 4})


def parsed(*arguments, kind=Config):
    """Returns the config of a command line."""
    with flagsaver.flagsaver():
        FLAGS(["program", *arguments])
        return flags.read(kind)


def test_without_flags_configs_are_what_they_are_without_arguments():
    assert parsed() == Config(
        configs.Data(),
        (configs.Model(),),
        configs.Hardware(),
        configs.Training(epochs=4),
        configs.ChainOptions(),
    )
    assert parsed(kind=configs.Output) == configs.Output(None, False)


def test_flags_are_read():
    found = parsed(
        "--dataset=~/mine.npz",
        "--examples=30,10,20",
        "--seed=5",
        "--weights=none,imagenet",
        "--precision=mixed_bfloat16",
        "--snapshots=0,100",
        "--chains=3",
    )
    assert found.data.examples == (30, 10, 20)
    assert found.data.seed == found.hardware.seed == 5
    assert [model.weights for model in found.networks] == ["none", "imagenet"]
    assert found.hardware.precision == "mixed_bfloat16"
    assert found.training.snapshots == (0, 100)
    assert found.chains.chains == 3
    assert parsed("--data_dir=~/data").data.data_dir == str(pathlib.Path.home() / "data")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--examples=30,10", "must be three positive numbers"),
        ("--examples=30,0,10", "must be three positive numbers"),
        ("--snapshots=-1", "must be steps"),
        ("--distribution=cloud", "should be one of"),
        ("--precision=float8", "should be one of"),
        ("--tpu=local", "--distribution=tpu needs a TPU's name"),
        ("--batch_size=0", "not a positive integer"),
        ("--seed=-1", r"not an integer in the range"),
    ],
)
def test_values_that_cannot_be_used(argument, message):
    with pytest.raises(absl_flags.IllegalFlagValueError, match=message):
        parsed(argument)


def test_hardware_is_that_of_the_library():
    own = {field.name: field.default for field in dataclasses.fields(hardware.Hardware)}
    assert issubclass(configs.Hardware, hardware.Hardware)
    assert {f.name: f.default for f in dataclasses.fields(configs.Hardware)} == own
    assert set(hardware.DISTRIBUTIONS) == set(FLAGS["distribution"].parser.enum_values)
    assert set(hardware.PRECISIONS) == set(FLAGS["precision"].parser.enum_values)


def test_options_of_training_are_passed_by_name():
    with pytest.raises(TypeError, match="positional"):
        configs.Training(4)


def assert_same(found, expected):
    for name in ("train", "validation", "test"):
        one, other = getattr(found, name), getattr(expected, name)
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.y, other.y)


def test_data_are_those_of_the_library(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)), np.arange(60) % 3
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    path = str(tmp_path / "mine.npz")
    whole = datasets.load(path, seed=2)
    assert_same(configs.Data(path, seed=2).load(), whole)
    some = configs.Data(path, examples=(12, 3, 6), seed=2).load()
    assert_same(some, whole.take(train=12, validation=3, test=6, seed=2))
    inputs = configs.Data(path, examples=(12, 3, 6), seed=2).load_inputs()
    assert_same(inputs, datasets.load_inputs(path, examples=(12, 3, 6), seed=2))
    with pytest.raises(ValueError, match="--examples requests too many examples"):
        configs.Data(path, examples=(1000, 1, 1)).load()


def test_points_without_labels_are_for_programs_that_need_none():
    with pytest.raises(ValueError, match=r"--dataset=spiral has no labels, which this program"):
        configs.Data("spiral").load()
    assert configs.Data("spiral", examples=(5, 2, 2)).load_inputs().train.x.shape == (5, 2)


def splits_of(shape, values=None):
    part = datasets.Split(np.zeros((1, *shape), np.uint8), np.zeros(1, int))
    return datasets.Splits(part, part, part, ("a", "b"), "zeros", values=values)


def test_a_network_is_that_of_the_registry():
    found = configs.Model("mlp").build(splits_of((4, 4, 1)), 3)
    expected = models.build("mlp", (4, 4, 1), 3)
    assert [w.shape for w in found.weights] == [w.shape for w in expected.weights]
    assert found.output_shape == (None, 3)


def test_preprocessing_by_its_name_or_as_the_network_has_it(monkeypatch):
    given = []
    monkeypatch.setattr(models, "build", lambda *args, **kwargs: given.append((args, kwargs)))
    configs.Model("vgg16", weights="imagenet", image_size=64).build(splits_of((8, 8, 3)), None)
    configs.Model("vgg16", preprocessing="tf", auxiliary_head=True).build(splits_of((8, 8, 3)), 5)
    (one, first), (other, second) = given
    assert one == ("vgg16", (8, 8, 3), None)
    assert other == ("vgg16", (8, 8, 3), 5)
    assert first["preprocessing"] is None
    assert (first["weights"], first["image_size"]) == ("imagenet", 64)
    assert (second["preprocessing"], second["auxiliary_head"]) == ("tf", True)


def test_the_help_names_every_data_set():
    said = FLAGS["dataset"].help
    assert [name for name in (*datasets.NAMES, *datasets.INPUT_NAMES) if name not in said] == []
