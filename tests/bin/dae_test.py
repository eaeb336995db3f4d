import json

import keras
import numpy as np
import pytest
from absl.testing import flagsaver

from bin import dae
from bin.common import runs

SMALL = {
    "dataset": "spiral",
    "examples": ["400", "50", "100"],
    "units": 40,
    "iterations": 60,
    "copies": 1,
    "chains": 50,
    "chain_steps": 40,
    "far_points": 20,
}
EVERYTHING = {
    "model.keras",
    "diagnostics.json",
    "score_field.png",
    "score_field.npz",
    "samples.png",
    "samples.npz",
    "attractors.png",
    "spectrum.png",
}


def run(folder, **values):
    with flagsaver.flagsaver(**{**SMALL, **values}):
        return dae.run(dae.config_from_flags(), folder)


@pytest.fixture
def start(start_any_program):
    """Returns a function that starts `bin.dae` in a folder, with flags."""

    def start_with(folder, values):
        arguments = [f"--{name}={value}" for name, value in values.items()]
        return start_any_program("dae", *arguments, f"--output_dir={folder}")

    return start_with


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_the_spiral_and_everything_that_is_written(tmp_path):
    found = run(tmp_path)
    assert names(tmp_path) >= {*EVERYTHING, "fit.json", "initial.json"}
    assert json.loads((tmp_path / "diagnostics.json").read_text()) == found
    assert found["loss_per_sigma2_of_identity"] == pytest.approx(2, abs=0.6)
    assert found["loss_per_sigma2"] < 0.8 * found["loss_per_sigma2_of_identity"]
    losses = json.loads((tmp_path / "fit.json").read_text())["losses"]
    assert len(losses) == 60
    model = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    with np.load(tmp_path / "score_field.npz", allow_pickle=False) as field:
        np.testing.assert_allclose(model(field["points"]), field["reconstruction"], atol=1e-5)
        away = (field["reconstruction"] - field["points"]) / found["sigma"] ** 2
        np.testing.assert_allclose(field["score"], away)
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as file:
        assert file["samples"].shape == (50, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"noise": "plain", "fit": "bfgs", "iterations": 2, "units": 10},
        {"noise": "plain", "fit": "lbfgs", "iterations": 2},
        {"noise": "decreasing", "epochs": 2, "batch_size": 50, "walkback": 2},
        {"tied": True, "fit": "minibatch", "epochs": 1, "batch_size": 50},
        {"criterion": "rcae", "iterations": 3},
        {"fit": "none", "sampler": "langevin", "chains_from": "box"},
        {"fit": "none", "sampler": "unadjusted_langevin"},
        {"dataset": "manifold10d", "initialization": "keras", "iterations": 3},
        {"fit": "none", "chains": 0, "far_points": 0},
    ],
    ids=lambda values: "-".join(f"{v}" for v in values.values()),
)
def test_other_ways(values, tmp_path):
    found = run(tmp_path, **values)
    assert np.isfinite(found["loss_per_sigma2"])
    assert ("samples" in found) == bool(values.get("chains", 1))
    assert (tmp_path / "score_field.png").exists()


@pytest.mark.slow
def test_images(tmp_path):
    values = {"dataset": "mnist_mini", "sampler": "langevin", "chains": 12, "chain_steps": 4}
    values |= {
        "epochs": 1,
        "batch_size": 100,
        "learning_rate": 1e-5,
        "sigma": 0.5,
        "max_sigma": 1.0,
    }
    found = run(tmp_path, **values)
    assert names(tmp_path) >= {*EVERYTHING, "reconstructions.png", "checkpoint.npz", "logs"}
    assert found["values_per_example"] == 784
    assert found["loss_per_sigma2"] < found["loss_per_sigma2_of_identity"]


@pytest.mark.slow
def test_ones_own_data_and_ones_own_model(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", x=rng.normal(size=(200, 3)))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    # The best possible reconstruction for N(0, I) and sigma = 1/2.
    model.layers[0].set_weights([np.eye(3) * 0.8, np.zeros(3)])
    model.save(tmp_path / "r.keras")
    found = run(
        tmp_path / "out",
        dataset=str(tmp_path / "mine.npz"),
        examples=None,
        sigma=0.5,
        reconstruction=str(tmp_path / "r.keras"),
    )
    assert "model.keras" not in names(tmp_path / "out")
    assert found["tangents"]["asymmetry"] == pytest.approx(0, abs=1e-6)
    assert found["loss_per_sigma2"] < 3
    assert found["attractors"]["attractors"] == 1


@pytest.mark.slow
def test_one_value_an_example(tmp_path):
    np.savez(tmp_path / "one.npz", x=np.random.default_rng(0).normal(size=(200, 1)))
    found = run(tmp_path / "out", dataset=str(tmp_path / "one.npz"), examples=None)
    assert "samples.png" in names(tmp_path / "out")
    assert np.isfinite(found["samples"]["acceptance"])


@pytest.mark.slow
def test_it_goes_on_where_it_was_killed(start, tmp_path):
    values = {**SMALL, "examples": "2000,50,100", "iterations": 150, "chain_steps": 400}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    start(whole, values).finish()
    for mark in (killed / "fit/after_00050.json", killed / "chains/piece_03.npz"):
        program = start(killed, values)
        program.until(mark.exists)
        program.kill()
    kept = {p: p.stat().st_mtime_ns for p in [*killed.glob("fit/*"), *killed.glob("chains/*")]}
    assert len(kept) > 6
    start(killed, values).finish()
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    results = [json.loads((folder / "diagnostics.json").read_text()) for folder in (whole, killed)]
    assert results[0] == results[1]
    with np.load(whole / "samples.npz") as a, np.load(killed / "samples.npz") as b:
        np.testing.assert_array_equal(a["samples"], b["samples"])


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"sigma": 0.0}, "--sigma must be a finite number above 0"),
        ({"max_sigma": float("nan")}, "--max_sigma must be a finite number"),
        ({"step": -1.0}, "--step must be a finite number above 0"),
        ({"criterion": "rcae", "walkback": 2}, "--walkback requires --criterion=denoising"),
        ({"noise": "decreasing", "fit": "lbfgs"}, "use --fit=minibatch"),
        ({"reconstruction": "mlp"}, "must be a .keras file"),
        ({"walkback": 2, "fit": "bfgs"}, "use --fit=minibatch"),
        ({"distribution": "mirrored"}, "--distribution requires --fit=minibatch"),
    ],
)
def test_flags_that_make_no_sense(values, match):
    with flagsaver.flagsaver(**values), pytest.raises(runs.UsageError, match=match):
        dae.config_from_flags()


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"criterion": "rcae", "noise": "plain"}, "Leave out --noise"),
        ({"reconstruction": "r.keras", "units": "5"}, "Leave out --units"),
        ({"fit": "minibatch", "iterations": "5"}, "Leave out --iterations"),
        ({"walkback": "2", "copies": "5"}, "Leave out --copies"),
        ({"fit": "lbfgs", "epochs": "5"}, "Leave out --epochs"),
        ({"tied": "true", "initialization": "data"}, "Leave out --initialization=data"),
        ({"noise": "plain", "max_sigma": "5"}, "Leave out --max_sigma"),
        ({"fit": "none", "iterations": "5"}, "Leave out --iterations"),
        ({"sampler": "unadjusted_langevin", "num_points": "5"}, "Leave out --num_points"),
        ({"chains": "0", "chain_steps": "5"}, "Leave out --chain_steps"),
    ],
)
def test_flags_that_would_be_of_no_use(values, match):
    with flagsaver.as_parsed(**values), pytest.raises(runs.UsageError, match=match):
        dae.config_from_flags()


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"sigma": 9.0}, "must be above sigma, 9"),
        ({"dataset": "spirall"}, "The nearest are: spiral"),
        ({"reconstruction": "no.keras", "sigma": 0.1}, "must be an existing file"),
        ({"fit": "minibatch", "batch_size": 401}, "at most the 400 training examples"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(values, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        run(tmp_path, **values)
    assert not names(tmp_path)


def test_constant_data_and_a_model_of_another_shape(tmp_path):
    np.savez(tmp_path / "flat.npz", x=np.ones((50, 2)))
    with pytest.raises(ValueError, match=r"must differ\. All are"):
        run(tmp_path / "out", dataset=str(tmp_path / "flat.npz"), examples=None)
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]).save(tmp_path / "r.keras")
    with pytest.raises(ValueError, match=r"inputs of \(2,\) and outputs of \(3,\)"):
        run(tmp_path / "out", reconstruction=str(tmp_path / "r.keras"), sigma=0.1)


@pytest.mark.slow
def test_models_of_images_otherwise_arranged(tmp_path):
    np.savez(tmp_path / "i.npz", x=np.random.default_rng(0).uniform(size=(90, 4, 4)))
    keras.Sequential([keras.Input((16,)), keras.layers.Dense(16)]).save(tmp_path / "r.keras")
    found = run(
        tmp_path / "out",
        dataset=str(tmp_path / "i.npz"),
        examples=None,
        sigma=0.1,
        reconstruction=str(tmp_path / "r.keras"),
    )
    assert found["values_per_example"] == 16


@pytest.mark.slow
def test_a_model_that_diverged(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(200, 3)))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.layers[0].set_weights([np.full((3, 3), np.nan), np.zeros(3)])
    model.save(tmp_path / "r.keras")
    values = {"dataset": str(path), "examples": None, "reconstruction": str(tmp_path / "r.keras")}
    with pytest.raises(ValueError, match=r"r\(x\).* must be finite"):
        run(tmp_path / "nan", **values, sigma=0.1)


@pytest.mark.slow
def test_chains_that_diverge_cost_no_numbers(tmp_path):
    values = {"sampler": "unadjusted_langevin", "step": 1000.0, "chain_steps": 2000}
    with pytest.raises(ValueError, match="The chains have diverged"):
        run(tmp_path, **values, fit="none", initialization="keras")
    assert "attractors" in json.loads((tmp_path / "diagnostics.json").read_text())


@pytest.mark.slow
def test_two_devices(start, tmp_path):
    # In a separate process, since collective operations depend on earlier ones in the process.
    values = {**SMALL, "examples": "400,50,100", "fit": "minibatch", "epochs": 1, "batch_size": 50}
    values |= {"distribution": "mirrored", "num_virtual_devices": 2, "chains": 0, "far_points": 0}
    values = {n: v for n, v in values.items() if n not in ("iterations", "copies", "chain_steps")}
    start(tmp_path, values).finish()
    found = json.loads((tmp_path / "diagnostics.json").read_text())
    assert np.isfinite(found["loss_per_sigma2"])


@pytest.mark.slow
@pytest.mark.parametrize(("sigma", "status"), [(None, 0), (0.01, 3)])
def test_the_spiral_ends_well_unless_its_noise_is_too_small(start, tmp_path, sigma, status):
    # What `bin.dae` does without flags, with fewer examples, units, iterations and chains.
    values = {"examples": "2000,200,500", "units": 100, "iterations": 20, "copies": 2}
    values |= {"chains": 200, "far_points": 20, **({"sigma": sigma} if sigma else {})}
    program = start(tmp_path, values)
    assert program.wait() == status, program.said
    found = json.loads((tmp_path / "diagnostics.json").read_text())
    assert (found["samples"]["r_hat"] > 1.1) == (status == 3)
    said = [line for line in program.said.splitlines() if line.startswith("warning: ")]
    assert said == [f"warning: {sentence}" for sentence in found["warnings"]]
    assert any("The chains have not mixed" in line for line in said) == (status == 3)


def test_help_answers_without_tensorflow(help_of):
    shown = help_of("dae")
    for flag in ("--sigma", "--noise", "--initialization", "--fit", "--sampler", "--dataset"):
        assert f"  {flag}" in shown
    assert "(default: 'spiral')" in shown


OWN = {"criterion": "denoising", "sigma": None, "copies": 4}
FOLDERS = {  # name: (config.json, diagnostics.json, --sigma, what comes)
    "no run": (None, None, None, "needs --sigma"),
    "no run, with sigma": (None, None, 0.2, 0.2),
    "a run of this program": (OWN, {"sigma": 0.1}, None, 0.1),
    "the same sigma": ({**OWN, "sigma": 0.1}, {"sigma": 0.1}, 0.1, 0.1),
    "another sigma": (OWN, {"sigma": 0.1}, 0.3, "--sigma must be 0.1, with which"),
    "a run that isn't over": (OWN, None, None, "needs --sigma"),
    "a run of another program": ({"network": {}}, {"sigma": 0.1}, None, "needs --sigma"),
    "a damaged file": (OWN, "{", None, "needs --sigma"),
    "a list": ([1], {"sigma": 0.1}, None, "needs --sigma"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_sigma_with_which_a_model_was_trained(name, tmp_path):
    *files, sigma, expected = FOLDERS[name]
    for file, value in zip(("config.json", "diagnostics.json"), files, strict=True):
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            (tmp_path / file).write_text(text)
    values = {"reconstruction": str(tmp_path / "model.keras"), "sigma": sigma}
    with flagsaver.flagsaver(**values):
        if isinstance(expected, float):
            assert dae.config_from_flags().sigma == expected
            return
        with pytest.raises(runs.UsageError, match=expected):
            dae.config_from_flags()
