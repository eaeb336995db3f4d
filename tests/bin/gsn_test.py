import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

from bin import gsn
from bin.common import flags as bin_flags
from bin.common import runs

SMALL = {
    "examples": ["300", "60", "60"],
    "epochs": 2,
    "batch_size": 50,
    "layers": ["30", "20"],
    "chains": 3,
    "chain_steps": 24,
    "inpaint_steps": 4,
    "sheet_every": 1,
}


def run(folder, **values):
    with flagsaver.flagsaver(**{**SMALL, **values}):
        return gsn.run(gsn.config_from_flags(), gsn.jobs_from_flags(), folder)


def sample(folder, **values):
    """Samples from the network in the folder, like `--do=sample` with these flags."""
    given = {name: str(value) for name, value in values.items()}
    with flagsaver.as_parsed(do="sample", **given):
        folder = runs.existing(folder)
        return gsn.run(gsn.trained_config(folder), gsn.jobs_from_flags(), folder)


@pytest.fixture
def start(start_any_program):
    """Returns a function that starts `bin.gsn` in a folder, with flags."""

    def start_with(folder, values):
        arguments = [
            f"--{name}={','.join(value) if isinstance(value, list) else value}"
            for name, value in values.items()
        ]
        return start_any_program("gsn", *arguments, f"--output_dir={folder}")

    return start_with


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_digits_and_everything_that_is_written(tmp_path):
    found = run(tmp_path, scaling=True, walkback_steps=["3"])
    assert set(found) == {"train", "sample", "inpaint", "evaluate", "export"}
    assert names(tmp_path) >= {"model.keras", "checkpoint.npz", "logs", "sheets", "saved_model"}
    assert names(tmp_path / "sheets") == {"epoch_0001.png", "epoch_0002.png"}
    (sampled,) = (tmp_path / "sampled").iterdir()
    assert sampled.name == "3_chains_24_steps_first"
    assert names(sampled) == {"chains", "samples.png", "mixing.json", "evaluation.json"}
    evaluation = json.loads((sampled / "evaluation.json").read_text())
    assert evaluation == found["evaluate"]
    assert "sigma" in evaluation["parzen"]["protocol"]
    assert len(evaluation["alphas"]) == 3
    assert evaluation["quality"]["changes_per_100_steps"] is not None
    (inpainted,) = (tmp_path / "inpainted").iterdir()
    assert inpainted.name == "left_4_steps_first"
    assert found["inpaint"]["known_is_bit_identical"] is True
    assert found["inpaint"]["standard_deviation_between_runs"] > 0
    with np.load(inpainted / "completions.npz", allow_pickle=False) as file:
        truth, mask = file["truth"], file["mask"]
        assert file["completions"].shape == (3, 10, 28, 28, 1)
        assert (file["completions"][:, :, mask] == truth[:, mask]).all()
        assert mask[:, :14].all()
        assert not mask[:, 14:].any()
    model = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    served = tf.saved_model.load(str(tmp_path / "saved_model")).signatures
    step = served["step"](
        x=tf.constant(truth), seed=tf.constant([0, 1]), hidden_0=model.zero_hidden(truth)[0]
    )
    after = model.transition_kernel().step(model.initial_state(truth), tf.constant([0, 1]))
    np.testing.assert_array_equal(step["x"], after.x)


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"network": "dae", "layers": ["20"], "binarize": True, "walkback_stop": 0.5},
        {
            "network": "conv_dae",
            "layers": ["3", "4"],
            "outputs": "normal",
            "corruption": "gaussian",
        },
        {"outputs": "normal", "output_scale": 0.3, "corruption": "masking"},
        {"initial_hidden": "stored", "walkback_loss": "last", "known": "top"},
        {"initial_hidden": "2", "corruption": "block", "walkback_steps": ["1", "3"]},
        {"corruption": "none", "outputs": "normal_mixture", "layers": ["10"]},
    ],
    ids=lambda values: "-".join(map(str, values.values())),
)
def test_other_ways(values, tmp_path):
    found = run(tmp_path, **{"do": ["train", "sample", "inpaint"], "epochs": 1, **values})
    assert np.isfinite(found["train"]["loss"])
    assert np.isfinite(found["sample"]["effective_sample_size"])
    assert (tmp_path / "inpainted").exists()


@pytest.mark.slow
def test_vectors_without_labels(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", x=rng.normal(size=(200, 3)))
    np.savez(tmp_path / "mask.npz", mask=np.array([True, False, False]))
    found = run(
        tmp_path / "out",
        dataset=str(tmp_path / "mine.npz"),
        examples=None,
        outputs="normal",
        corruption="gaussian",
        known=str(tmp_path / "mask.npz"),
    )
    assert "quality" not in found["evaluate"]
    assert np.isfinite(found["evaluate"]["parzen"]["log_likelihood"])
    assert found["inpaint"]["known_is_bit_identical"]
    assert not (tmp_path / "out" / "sheets").exists()


@pytest.mark.slow
def test_a_trained_network_says_its_own_settings(start, tmp_path):
    values = {n: SMALL[n] for n in ("examples", "batch_size")} | {"do": ["train"], "epochs": 1}
    start(tmp_path / "run", values | {"network": "dae", "layers": ["15"]}).finish()
    rest = {"chains": 2, "chain_steps": 6}
    said = start(tmp_path / "run", {"do": "sample", **rest}).finish()
    assert "effective_sample_size" in said
    for more in ({"num_steps_between_results": 1}, {"seed": 3}):
        sample(tmp_path / "run", **rest, **more)
    assert names(tmp_path / "run" / "sampled") == {
        "2_chains_6_steps",
        "2_chains_6_steps_every_2",
        "2_chains_6_steps_seed_3",
    }
    with flagsaver.as_parsed(do="sample", data_dir="elsewhere"):
        moved = gsn.trained_config(tmp_path / "run")
    assert (moved.data.data_dir, moved.data.dataset) == ("elsewhere", "mnist_mini")
    with pytest.raises(runs.UsageError, match="Leave out --layers, --precision"):
        sample(tmp_path / "run", **rest, layers="15", precision="mixed_bfloat16")
    with pytest.raises(runs.UsageError, match=r"holds no run. Use --do=train first"):
        sample(tmp_path / "none")
    # A file of another network raises an error, and no file is lost.
    model = tmp_path / "run" / "model.keras"
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model.keras is not a Keras model, or is incomplete"):
        sample(tmp_path / "run", **rest)
    assert len(model.read_bytes()) == len(whole) // 2


@pytest.mark.slow
def test_it_goes_on_where_it_was_killed(start, tmp_path):
    values = {**SMALL, "do": ["train", "sample"], "epochs": 6, "checkpoint_every": 5}
    del values["inpaint_steps"]
    values |= {"chains": 8, "chain_steps": 8000, "num_steps_between_results": 39}
    values["initial_hidden"] = "stored"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    start(whole, values).finish()
    (name,) = (path.name for path in (whole / "sampled").iterdir())
    for mark in ("checkpoint.npz", f"sampled/{name}/chains/piece_03.npz"):
        program = start(killed, values)
        program.until((killed / mark).exists)
        program.kill()
    start(killed, values).finish()
    with np.load(whole / "checkpoint.npz") as a, np.load(killed / "checkpoint.npz") as b:
        assert a.files == b.files
        for key in a.files:
            np.testing.assert_array_equal(a[key], b[key])
    for number in (0, 19):
        piece = f"sampled/{name}/chains/piece_{number:02d}.npz"
        with np.load(whole / piece) as a, np.load(killed / piece) as b:
            np.testing.assert_array_equal(a["samples"], b["samples"])


def test_help_teaches_at_once(help_of):
    said = help_of("gsn")
    for word in ("--walkback_steps", "--[no]scaling", "--chains", "--known"):
        assert word in said


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"network": "dae", "layers": ["3", "4"]}, "--layers of --network=dae is one number"),
        ({"walkback_steps": ["3", "2"]}, "--walkback_steps must be a number, or the smallest"),
        (
            {"walkback_steps": ["1", "2"], "walkback_stop": 0.5},
            "--walkback_stop needs a single",
        ),
        ({"initial_hidden": "warm"}, "--initial_hidden must be zeros, stored or a number"),
        ({"do": ["dream"]}, "--do must be some of train, export, sample"),
        ({"chains": 0}, "--chains must be at least 1"),
        ({"num_steps_between_results": 25}, "must be less than --chain_steps"),
        ({"walkback_stop": 0.0}, "--walkback_stop must be a probability"),
        ({"walkback_steps": ["1"], "walkback_stop": 0.5}, "above 1"),
        ({"walkback_steps": ["1"], "scaling": True}, "--scaling needs --walkback_steps above 1"),
        ({"walkback_steps": ["1"]}, "never reaches the second layer"),
        ({"corruption": "masking", "corruption_level": 2.0}, r"must be in \(0, 1\]. Received: 2.0"),
        ({"corruption": "block", "corruption_level": 7.0}, r"must be in \(0, 1\]"),
        ({"corruption": "gaussian", "corruption_level": 0.0}, "must be above 0"),
    ],
)
def test_flags_that_make_no_sense(values, match):
    with flagsaver.flagsaver(**{**SMALL, **values}), pytest.raises(runs.UsageError, match=match):
        (gsn.config_from_flags(), gsn.jobs_from_flags())


@pytest.mark.parametrize("name", ["layers", "walkback_steps"])
def test_sizes_that_are_no_numbers(name):
    with pytest.raises(flags.IllegalFlagValueError, match=f"--{name}.*must be positive numbers"):
        flagsaver.as_parsed(**{name: "0"}).__enter__()


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"network": "dae", "layers": "5", "hidden_noise": "1"}, "Leave out --hidden_noise"),
        ({"corruption": "none", "corruption_level": "1"}, "Leave out --corruption_level"),
        ({"output_scale": "1"}, "Leave out --output_scale"),
        ({"do": "train", "known": "top"}, "Leave out --known: only --do=inpaint takes it"),
        (
            {"do": "inpaint", "num_steps_between_results": "2"},
            "Leave out --num_steps_between_results: only --do=sample,evaluate takes it",
        ),
        ({"do": "sample", "sheet_every": "2"}, "Leave out --sheet_every: only --do=train takes it"),
    ],
)
def test_flags_without_effect(values, match):
    with (
        flagsaver.as_parsed(**values),
        pytest.raises(runs.UsageError, match=match),
    ):
        (gsn.config_from_flags(), gsn.jobs_from_flags())


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"chains": 301}, "--chains must be at most 300"),
        ({"known": "middle"}, "--known must be left, right, top, bottom or an .npz file"),
        ({"batch_size": 400}, "`batch_size` must be at most the 300"),
        ({"network": "conv_dae", "layers": ["2"] * 4}, "sides divisible by 8"),
    ],
)
def test_what_does_not_fit_is_an_error_before_anything_is_written(values, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        run(tmp_path, **values)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_data_that_the_network_cannot_have(tmp_path):
    np.savez(tmp_path / "mine.npz", x=np.random.default_rng(0).normal(size=(200, 3)))
    np.savez(tmp_path / "mask.npz", mask=np.ones(4, bool))
    options = {"dataset": str(tmp_path / "mine.npz"), "examples": None}
    with pytest.raises(ValueError, match=r"Bernoulli units must be in \[0, 1\]"):
        run(tmp_path, **options)
    options |= {"outputs": "normal", "corruption": "gaussian"}
    with pytest.raises(ValueError, match="The mask in"):
        run(tmp_path, **options, known=str(tmp_path / "mask.npz"))
    np.savez(tmp_path / "all.npz", mask=np.ones(3, bool))
    with pytest.raises(ValueError, match="true everywhere"):
        run(tmp_path, **options, known=str(tmp_path / "all.npz"))
    with pytest.raises(ValueError, match="with an array named mask"):
        run(tmp_path, **options, known=options["dataset"])
    with pytest.raises(ValueError, match="must be an existing"):
        run(tmp_path, **options, known="nowhere.npz")
    with pytest.raises(ValueError, match="is for images; pass an"):
        run(tmp_path, **options, known="left")
    found = run(tmp_path / "out", **options, do=["train", "inpaint"], epochs=1)
    assert found["inpaint"] == {}


@pytest.mark.slow
def test_a_checkpoint_of_another_network_or_cut_short(tmp_path):
    run(tmp_path, do=["train"], epochs=1)
    path = tmp_path / "checkpoint.npz"
    whole = path.read_bytes()
    with pytest.raises(ValueError, match="is the checkpoint of another model"):
        run(tmp_path, do=["train"], layers=["30", "21"])
    path.write_bytes(whole[:1000])
    with pytest.raises(ValueError, match="is not a checkpoint, or was cut short"):
        run(tmp_path, do=["train"], epochs=2)
    assert path.read_bytes() == whole[:1000]


def test_every_flag_of_a_job_is_refused_where_it_has_no_effect():
    listed = {name for names in gsn.JOB_FLAGS for name in names}
    assert set(bin_flags.names(gsn.Jobs)) - {"do"} == listed
