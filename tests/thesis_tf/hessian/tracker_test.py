import glob

import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import hessian
from thesis_tf.hessian import SpectrumTracker, history_of_checkpoints, tracker


def kept(model, folder, steps):
    """Returns weights files of a model whose weights grow at each step."""
    start, files = model.get_weights(), {}
    for step in steps:
        model.set_weights([(1 + 0.01 * step) * w for w in start])
        files[step] = folder / f"step_{step}.weights.h5"
        model.save_weights(files[step])
    model.set_weights(start)
    return files


@pytest.mark.slow
def test_checkpoints(problem, dense_hessian, tmp_path):
    model, loss, data = problem()
    before = model.get_weights()
    files = kept(model, tmp_path, [5, 0, 20])
    operator = hessian.HessianOperator(model, loss, data)
    history = history_of_checkpoints(
        operator,
        files,
        folder=tmp_path / "h",
        largest=3,
        smallest=2,
        tol=1e-8,
        log_dir=tmp_path / "logs",
    )

    assert history.steps == [0, 5, 20]
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    vectors = []
    for found, step in zip(history.entries, history.steps, strict=True):
        model.load_weights(files[step])
        values, columns = np.linalg.eigh(dense_hessian(model, data))
        np.testing.assert_allclose(found.largest, values[:-4:-1], atol=1e-10)
        np.testing.assert_allclose(found.smallest, values[:2], atol=1e-10)
        assert found.converged
        vectors.append(columns)
    assert history.entries[0].largest_angles is None
    overlap = abs(vectors[1].T @ vectors[2])
    expected = np.degrees(np.arccos(np.minimum(1, [overlap[-1, -1], overlap[-2, -2]])))
    np.testing.assert_allclose(history.entries[2].largest_angles[:2], expected, atol=1e-2)
    assert [p.name for p in (tmp_path / "h").glob("eigenpairs*")] == ["eigenpairs_0000020.npz"]
    assert not list((tmp_path / "h").glob("search*"))
    (events,) = glob.glob(f"{tmp_path}/logs/*")
    tags = {v.tag for e in tf.compat.v1.train.summary_iterator(events) for v in e.summary.value}
    assert {"hessian/largest_03", "hessian/smallest_02", "hessian/largest_01_angle"} <= tags
    assert len(history.table().splitlines()) == 4


@pytest.mark.slow
def test_goes_on_after_a_kill(problem, tmp_path, monkeypatch):
    model, loss, data = problem()
    files = kept(model, tmp_path, [0, 1, 2])
    options = {"largest": 2, "smallest": 1, "tol": 1e-6}
    operator = hessian.HessianOperator(model, loss, data)
    through = history_of_checkpoints(operator, files, folder=tmp_path / "a", **options)
    first = SpectrumTracker(operator, folder=tmp_path / "b", **options)
    model.load_weights(files[0])
    first.add(0)
    written = tracker.files.write_json

    def killed(*_):
        raise KeyboardInterrupt

    # One kill between the files of an entry, and then an uninterrupted run.
    monkeypatch.setattr(tracker.files, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        history_of_checkpoints(operator, files, folder=tmp_path / "b", **options)
    monkeypatch.setattr(tracker.files, "write_json", written)
    before = operator.products
    again = history_of_checkpoints(operator, files, folder=tmp_path / "b", **options)
    assert again.entries == through.entries
    before, products = operator.products, sum(e.products for e in again.entries)
    assert history_of_checkpoints(operator, files, folder=tmp_path / "b", **options).steps == [
        0,
        1,
        2,
    ]
    assert operator.products == before
    assert products > 0
    with pytest.raises(ValueError, match=r"`largest` must be 2, as in"):
        SpectrumTracker(operator, folder=tmp_path / "b", largest=3, smallest=1)


@pytest.mark.slow
def test_a_folder_of_another_history(problem, tmp_path):
    model, loss, (x, y) = problem()
    options = {"largest": 1, "smallest": 1}
    operator = hessian.HessianOperator(model, loss, (x, y))
    SpectrumTracker(operator, folder=tmp_path, **options).add(0)
    others = {
        "data": hessian.HessianOperator(model, loss, (x[:-1], y[:-1])),
        "parameters": hessian.HessianOperator(model, loss, (x, y), parameters="*kernel"),
        "loss": hessian.HessianOperator(model, lambda y, o: loss.call(y, o) ** 2, (x, y)),
    }
    for other in others.values():
        with pytest.raises(ValueError, match="a history of another model, loss or data set"):
            SpectrumTracker(other, folder=tmp_path, **options)
    model.set_weights([w + 0.1 for w in model.get_weights()])
    with pytest.raises(ValueError, match=r"step 0 of another training.*Choose another folder"):
        SpectrumTracker(operator, folder=tmp_path, **options).add(0)


@pytest.mark.slow
def test_training_that_goes_on_otherwise(problem, tmp_path):
    model, loss, data = problem()
    files = kept(model, tmp_path, [0, 1, 2])
    operator = hessian.HessianOperator(model, loss, data)
    options = {"largest": 1, "smallest": 1}
    before = history_of_checkpoints(operator, files, folder=tmp_path / "h", **options).entries
    files[1] = kept(model, tmp_path, [7])[7]
    with pytest.warns(UserWarning, match="At step 1, training differs"):
        after = history_of_checkpoints(operator, files, folder=tmp_path / "h", **options).entries
    assert after[0] == before[0]
    assert after[1].loss != before[1].loss
    assert after[2].loss == before[2].loss
    # A kill while entries are computed again has removed the eigenvectors of the last one.
    (tmp_path / "h" / "eigenpairs_0000002.npz").unlink()
    again = history_of_checkpoints(operator, files, folder=tmp_path / "h", **options).entries
    assert again == after


def test_without_a_folder(problem):
    model, loss, data = problem()
    tracked = SpectrumTracker(hessian.HessianOperator(model, loss, data), largest=2, smallest=0)
    assert tracked.history.steps == []
    entry = tracked.add(7)
    assert tracked.add(7) is entry is tracked.history.entries[0]
    assert entry.smallest == ()
    assert "7" in tracked.history.table()


def test_a_checkpoint_of_another_model(problem, tmp_path):
    model, loss, data = problem()
    operator = hessian.HessianOperator(model, loss, data)
    other = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")
    files = kept(model, tmp_path, [0]) | {1: tmp_path / "other.weights.h5"}
    for bad in (files, {0: tmp_path / "none.weights.h5"}):
        with pytest.raises(ValueError, match="A checkpoint must be a weights file of"):
            history_of_checkpoints(operator, bad, folder=tmp_path / "h")
    assert not (tmp_path / "h").exists()
    with pytest.raises(ValueError, match="`checkpoints` must be at least one"):
        history_of_checkpoints(operator, {})
    with pytest.raises(TypeError, match="`checkpoints` must be a dict"):
        history_of_checkpoints(operator, [files[0]])


@pytest.mark.parametrize("folder", [False, True])
def test_an_earlier_step(problem, tmp_path, folder):
    """Entries are in the order of their steps, each with the angles to the one before."""
    model, loss, data = problem()
    files = kept(model, tmp_path, [0, 9, 10])
    operator = hessian.HessianOperator(model, loss, data, check=False)
    options = {"folder": tmp_path / "h" if folder else None, "largest": 1, "smallest": 0}
    found = SpectrumTracker(operator, verbose=0, **options)
    for step in (0, 10):
        model.load_weights(files[step])
        found.add(np.int64(step))
    model.load_weights(files[9])
    with pytest.warns(UserWarning, match="Step 9 is before 10"):
        found.add(9)
    model.load_weights(files[10])
    found.add(10)
    assert found.history.steps == [0, 9, 10]
    assert found.history.entries[2].largest_angles is not None


@pytest.mark.parametrize("step", ["10", 1.5, None])
def test_what_is_no_step(problem, step):
    """Strings would be in the order of their letters, 10 before 9."""
    model, loss, data = problem()
    operator = hessian.HessianOperator(model, loss, data, check=False)
    with pytest.raises(TypeError, match="`step` must be an integer"):
        SpectrumTracker(operator, verbose=0, largest=1, smallest=0).add(step)
