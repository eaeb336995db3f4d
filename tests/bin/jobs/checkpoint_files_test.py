import keras
import pytest

from bin.jobs import checkpoint_files


def test_steps_come_from_the_names_of_files(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    paths = [str(tmp_path / f"lenet5_step_{step:03d}.weights.h5") for step in (40, 0)]
    for path in paths:
        model.save_weights(path)
    assert checkpoint_files.by_step(paths, model) == {40: paths[0], 0: paths[1]}
    assert checkpoint_files.unit(paths) == "training step"
    epochs = [*paths, "runs/steps/ep4.weights.h5"]
    assert checkpoint_files.unit(epochs) == "number in the checkpoint's name"
    with pytest.raises(ValueError, match="must be existing files"):
        checkpoint_files.by_step([str(tmp_path / "step_1.weights.h5")], model)
