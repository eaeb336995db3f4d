import keras
import numpy as np

from bin.common import configs
from bin.jobs.issgd import config, training

RNG = np.random.default_rng(0)
DATA = {"train": (RNG.normal(size=(30, 4)).astype("f"), RNG.integers(3, size=30))}


def test_a_trainer_of_a_config(tmp_path):
    run = config.RunSettings(configs.Data(), configs.Model())
    how = config.SynchronizedTraining(batch_size=5, sync_every=3, optimizer="sgd", momentum=0.5)
    setting = config.Config(run, config.Draws(), how, configs.Hardware())
    limits, records = config.Limits(checkpoint_every=3), []
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    how.compile(model)
    assert (model.optimizer.momentum, model.optimizer.nesterov) == (0.5, True)
    trainer = training.trainer(
        setting, limits, tmp_path, model, DATA, setting.draws.proposal(30, 0), None,
        on_sync=records.append,
    )  # fmt: skip
    trainer.train(6)
    assert [record.step for record in records] == [3, 6]
    assert {"checkpoint.npz", "history.jsonl"} <= {path.name for path in tmp_path.iterdir()}
