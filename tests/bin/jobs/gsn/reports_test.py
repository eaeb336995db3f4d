import json

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from bin import gsn
from bin.common import configs
from bin.jobs.gsn import reports

CHAINS, STEPS = 4, 9


@pytest.fixture(scope="module")
def trained(make_run, tmp_path_factory):
    """A trained network of images, read from its file."""
    folder = tmp_path_factory.mktemp("gsn") / "run"
    settings = {"binarize": True, "scaling": True}
    make_run(folder, **settings).train(sheet_every=0)
    return make_run(folder, **settings)


def jobs(*do, **settings):
    return gsn.Jobs(**{"chains": configs.ChainOptions(CHAINS, STEPS), "do": do, **settings})


def done(run, *do, **settings):
    return reports.JobsAfterTraining(run, jobs(*do, **settings)).run()


def samples(folder):
    """Returns the logits (steps, chains, ...) of chains, from their files."""
    pieces = sorted((folder / "chains").glob("piece_*.npz"))
    return np.concatenate([np.load(path, allow_pickle=False)["samples"] for path in pieces])


def log_mean(log_probabilities):
    """Returns the mean over test examples of log mean_i P(x | i), from (samples, test examples)."""
    each = scipy.special.logsumexp(log_probabilities, axis=0) - np.log(len(log_probabilities))
    return each.mean()


@pytest.mark.slow
def test_likelihoods_are_those_written_out(trained):
    found = done(trained, "evaluate", num_steps_between_results=2)["evaluate"]
    folder = trained.folder / "sampled" / "4_chains_9_steps_every_3_seed_3_first"
    assert json.loads((folder / "evaluation.json").read_text()) == found
    logits = samples(folder).astype(float)
    assert logits.shape == (3, CHAINS, 4, 5, 1)
    x = trained.splits.test.x.reshape(12, 1, 20).astype(float)
    p = scipy.special.expit(logits.reshape(1, 12, 20))
    conservative = np.log(np.where(x == 1, p, 1 - p)).sum(-1).T
    assert found["conservative"]["log_likelihood"] == pytest.approx(log_mean(conservative), 1e-4)
    # The validation examples choose a sigma near the best one of a dense grid.
    validation = trained.splits.validation.x.reshape(12, 1, 20).astype(float)
    grid = np.geomspace(0.1, 2, 200)
    best = max(grid, key=lambda sigma: log_mean(window(p, validation, sigma)))
    expected = log_mean(window(p, x, best))
    assert found["parzen_of_all_samples"]["log_likelihood"] == pytest.approx(expected, rel=0.02)
    # 36 training examples allow more samples than the chains have.
    assert found["parzen"] == found["parzen_of_all_samples"]
    assert found["alphas"] == pytest.approx([1, np.exp(float(trained.model.log_alpha[0]))])
    assert "quality" not in found
    assert found["quality_left_out"] == "Quality is left out: run_data has no labels."


def window(samples, x, sigma):
    """Returns log N(x_j; s_i, sigma^2), (samples, examples)."""
    squares = ((x - samples) ** 2).sum(-1).T
    return -squares / (2 * sigma**2) - 20 / 2 * np.log(2 * np.pi * sigma**2)


@pytest.mark.slow
def test_sampling_draws_and_measures_chains_once(trained, monkeypatch):
    found = done(trained, "sample", num_burnin_steps=1, chain_alpha="random")["sample"]
    folder = trained.folder / "sampled" / "4_chains_9_steps_after_1_seed_3_random"
    assert {path.name for path in folder.iterdir()} == {"chains", "mixing.json", "samples.png"}
    assert json.loads((folder / "mixing.json").read_text()) == found
    drawn = samples(folder)
    assert drawn.shape == (STEPS, CHAINS, 4, 5, 1)
    done(trained, "sample", num_burnin_steps=1, chain_alpha="random")
    np.testing.assert_array_equal(samples(folder), drawn)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ("left", "11100" * 4),  # three of five columns
        ("right", "00111" * 4),
        ("top", "1" * 10 + "0" * 10),
        ("bottom", "0" * 10 + "1" * 10),
        (None, "11100" * 4),
    ],
)
def test_what_in_painting_knows(trained, known, expected):
    mask = reports.JobsAfterTraining(trained, jobs("inpaint", known=known))._mask
    assert mask.shape == (4, 5, 1)
    assert "".join(map(str, mask.astype(int).ravel())) == expected


def test_in_painting_keeps_what_is_known(trained, tmp_path):
    mask = np.random.default_rng(0).uniform(size=(4, 5)) < 0.5
    np.savez(tmp_path / "mask.npz", mask=mask)
    known = str(tmp_path / "mask.npz")
    found = done(trained, "inpaint", known=known, inpaint_steps=3)["inpaint"]
    folder = trained.folder / "inpainted" / "mask_3_steps_seed_3_first"
    assert json.loads((folder / "inpainting.json").read_text()) == found
    with np.load(folder / "completions.npz", allow_pickle=False) as file:
        drawn, truth = file["completions"], file["truth"]
        np.testing.assert_array_equal(file["mask"][..., 0], mask)
    np.testing.assert_array_equal(truth, trained.splits.test.x[:10])
    assert (drawn[:, :, mask] == truth[:, mask]).all()
    assert found["known_is_bit_identical"] is True
    deviation = drawn[:, :, ~mask].std(axis=0).mean()
    assert found["standard_deviation_between_runs"] == pytest.approx(deviation, rel=1e-6)
    assert ((drawn > 0) & (drawn < 1))[:, :, ~mask].all()  # means, not draws


def test_what_is_exported_is_the_chain(trained):
    path = done(trained, "export")["export"]["path"]
    x, seed = tf.constant(trained.splits.test.x), tf.constant([0, 1])
    step = tf.saved_model.load(path).signatures["step"]
    after = trained.model.transition_kernel().step(trained.model.initial_state(x), seed)
    found = step(x=x, seed=seed, hidden_0=trained.model.zero_hidden(x)[0])
    np.testing.assert_array_equal(found["x"], after.x)


def test_vectors_are_completed_only_with_a_mask(make_run, tmp_path):
    run = make_run(tmp_path / "run", np.random.default_rng(0).uniform(size=(60, 3)))
    assert reports.JobsAfterTraining(run, jobs("train", "inpaint")).run() == {"inpaint": {}}
    with pytest.raises(ValueError, match=r"--known=left is for images; pass an .npz file"):
        reports.JobsAfterTraining(run, jobs("train", "inpaint", known="left"))
    with pytest.raises(ValueError, match=r"model.keras doesn't exist"):
        reports.JobsAfterTraining(run, jobs("inpaint"))


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"mask": np.ones((4, 5), bool)}, "Received: true everywhere"),
        ({"mask": np.zeros(4, bool)}, r"must be of shape \(4, 5, 1\).*Received: \(4,\)"),
        ({"known": np.zeros((4, 5), bool)}, "with an array named mask"),
    ],
)
def test_masks_that_do_not_fit(trained, tmp_path, arrays, match):
    np.savez(tmp_path / "mask.npz", **arrays)
    with pytest.raises(ValueError, match=match):
        reports.JobsAfterTraining(trained, jobs("inpaint", known=str(tmp_path / "mask.npz")))


def test_settings_that_do_not_fit(trained):
    with pytest.raises(ValueError, match="--known must be left, right, top, bottom or an"):
        reports.JobsAfterTraining(trained, jobs("inpaint", known="middle"))
    with pytest.raises(ValueError, match="--chains must be at most 36"):
        reports.JobsAfterTraining(trained, jobs("sample", chains=configs.ChainOptions(37, 5)))


@pytest.mark.parametrize("job", ["evaluate", "inpaint"])
def test_labels_that_are_no_labels_are_not_passed_over(make_run, tmp_path, job):
    run = make_run(tmp_path / "run")
    path = run.config.data.dataset
    with np.load(path) as file:
        stored = dict(file)
    labels = {name.replace("x_", "y_"): np.full(len(x), 0.5) for name, x in stored.items()}
    np.savez(path, **stored, **labels)
    with pytest.raises(ValueError, match="`y_train` of run_data must be"):
        reports.JobsAfterTraining(run, jobs("train", job))
    reports.JobsAfterTraining(run, jobs("train", "sample", "export"))


def test_sentences_on_results_that_cannot_be_trusted():
    found = {
        "train": {"loss": 1.0},
        "sample": {"r_hat": 5.0, "warnings": ["a", "b"]},
        "evaluate": {"warnings": ["b", "c"]},
        "export": {"path": "x"},
    }
    assert reports.doubts(found) == ["a", "b", "c"]
    assert reports.doubts({}) == []


@pytest.mark.slow
def test_chains_that_draw_the_mean_image(make_run, tmp_path):
    # Without training, E[x | h] is nearly the same gray for every h.
    run = make_run(tmp_path / "run", hidden_noise=0.0)
    run.train(sheet_every=0)
    for variable in run.model.trainable_variables:
        variable.assign(0.01 * variable.value)
    found = reports.JobsAfterTraining(run, jobs("train", "sample")).run()["sample"]
    assert found["spread_of_samples"] < 0.1
    assert any("of the data's standard deviation" in sentence for sentence in found["warnings"])
    assert json.loads(next(tmp_path.rglob("mixing.json")).read_text()) == found


@pytest.mark.parametrize("ratio", [1.0, 0.01])
@pytest.mark.parametrize(
    ("job", "picture", "what"),
    [("sample", "samples.png", "Samples"), ("inpaint", "completions.png", "Completed values")],
)
def test_the_spread_is_in_picture_and_file(
    trained, monkeypatch, said_in_pictures, job, picture, what, ratio
):
    monkeypatch.setattr(reports.spread, "ratio", lambda samples, data: ratio)
    found = done(trained, job, inpaint_steps=3)
    said = [s for s in reports.doubts(found) if s == f"{what} have 0.01 of the data's standard"
            " deviation."]  # fmt: skip
    assert bool(said) == (ratio == 0.01)
    assert all(sentence in said_in_pictures[picture] for sentence in said)
    path = {"sample": "mixing.json", "inpaint": "inpainting.json"}[job]
    (path,) = (p for p in trained.folder.rglob(path) if json.loads(p.read_text()) == found[job])


def test_the_baseline_is_in_the_evaluation(trained):
    found = done(trained, "evaluate")
    x = trained.splits
    p = (x.train.x.sum(axis=0, dtype=float) + 1) / (len(x.train.x) + 2)
    expected = (x.test.x * np.log(p) + (1 - x.test.x) * np.log(1 - p)).sum(axis=(1, 2, 3)).mean()
    estimate = found["evaluate"]["conservative"]
    assert estimate["baseline_log_likelihood"] == pytest.approx(expected, rel=1e-9)
    # The images are noise, so nothing but the means can be learned.
    assert any(
        "is not better beyond its error than that of independent" in s
        for s in reports.doubts(found)
    )
