import keras
import numpy as np

from bin.jobs.dae.output import RunOutput


def network():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])


def test_workers_that_are_not_the_chief_write_nothing(tmp_path):
    output = RunOutput(tmp_path, chief=False)
    output.write_json("a.json", {"a": 1})
    output.write_arrays("a.npz", {"a": np.ones(2)})
    output.save_variables(tmp_path / "v.npz", network())
    assert not list(tmp_path.iterdir())


def test_variables_come_back(tmp_path):
    output, path = RunOutput(tmp_path), tmp_path / "v.npz"
    first, second = network(), network()
    assert not output.restore_variables(path, second)
    output.save_variables(path, first)
    assert output.restore_variables(path, second)
    np.testing.assert_array_equal(first.get_weights()[0], second.get_weights()[0])


def test_lines_are_printed_unless_verbose_is_0(tmp_path, capsys):
    RunOutput(tmp_path).say("nothing")
    RunOutput(tmp_path, verbose=2).say_numbers({"loss": 0.123456, "name": "x", "count": 3})
    assert capsys.readouterr().out == "loss 0.1235, count 3\n"
