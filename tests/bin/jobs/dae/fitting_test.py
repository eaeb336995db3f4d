import numpy as np
import tensorflow as tf

from bin.jobs.dae import fitting
from bin.jobs.dae.output import RunOutput

X = np.random.default_rng(0).normal(size=(60, 2))


def test_a_fit_that_was_kept_is_not_repeated(made, tmp_path):
    found = made(X, units=8, iterations=60, copies=1, noise="plain")
    folder = tmp_path / "run"
    models = [found.build_model(), found.build_model()]
    fitting.fit(found, models[0], RunOutput(folder), tf.distribute.get_strategy())
    kept = {path: path.stat().st_mtime_ns for path in (folder / "fit").iterdir()}
    assert {path.stem for path in kept} == {"after_00050", "after_00060"}
    fitting.fit(found, models[1], RunOutput(folder), tf.distribute.get_strategy())
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for first, second in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
