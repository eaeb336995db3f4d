import numpy as np
import pytest

from bin.jobs.gsn import judge
from thesis_tf import datasets


@pytest.fixture
def labeled(make_run, tmp_path):
    """Returns a function from examples (n, ...) and labels (n,) to a run of them."""

    def make(x, y, **settings):
        run = make_run(tmp_path / "run", x, **settings)
        path = run.config.data.dataset
        parts = np.split(y, [3 * len(x) // 5, 4 * len(x) // 5])
        labels = dict(zip(("y_train", "y_validation", "y_test"), parts, strict=True))
        with np.load(path) as stored:
            arrays = dict(stored)
        np.savez(path, **arrays, **labels)
        return run, labels["y_test"]

    return make


@pytest.fixture(scope="module")
def digits():
    found = datasets.load("mnist_mini").train
    return found.x[:1000, ::2, ::2], found.y[:1000]


@pytest.mark.parametrize(("scale", "channels"), [(1, True), (255, True), (65535, True), (1, False)])
def test_it_gets_the_scale_of_its_training_and_says_how_good_it_is(
    labeled, digits, monkeypatch, scale, channels
):
    monkeypatch.setattr(judge, "_EPOCHS", 8)
    x, y = digits
    dtype = {1: np.float32, 255: np.uint8, 65535: np.uint16}[scale]
    stored = np.asarray(x / 255 * scale, dtype)
    run, expected = labeled(stored if channels else stored[..., 0], y)
    test = run.splits.test.x
    assert (test.min(), test.max()) == (0, 1)
    made = judge.Judge(run)
    found = made.judge(test)
    right = made._trained()(test).argmax(axis=1) == expected
    # A tenth would be right by chance; with pixels divided by 255 again, a fifth to a third is.
    assert right.mean() > 0.6
    assert found["classifier"] == {
        "test_accuracy": pytest.approx(right.mean()),
        "share_of_commonest_class": max(np.unique(expected, return_counts=True)[1]) / 200,
    }
    assert found["quality"] == found["quality_of_test_examples"]


def test_chains_are_judged_step_by_step(labeled, digits):
    x, y = digits
    run, _ = labeled(x, y)
    made = judge.Judge(run)
    chains = run.splits.test.x[:120].reshape(30, 4, 14, 14, 1)
    found = made.judge(chains, num_steps_between_results=4)["quality"]
    classes = made._trained()(run.splits.test.x[:120]).argmax(axis=1).reshape(30, 4)
    changes = 100 * (classes[1:] != classes[:-1]).mean() / 5
    assert found["changes_per_100_steps"] == pytest.approx(changes)


@pytest.mark.parametrize("size", [60, 400])  # a batch is larger than the first
def test_a_classifier_that_only_guesses_judges_nothing(labeled, size):
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(size, 4, 5, 1)).astype(np.float32)
    run, _ = labeled(x, np.arange(size) % 2)
    found = judge.Judge(run).judge(run.splits.test.x)
    assert set(found) == {"classifier", "warnings"}
    (said,) = found["warnings"]
    assert said.startswith("Quality is left out, since its classifier can't judge. The network is")
    share = found["classifier"]["share_of_commonest_class"]
    assert found["classifier"]["test_accuracy"] <= share + (1 / len(run.splits.test)) ** 0.5


@pytest.mark.parametrize(
    ("shape", "with_labels", "said"),
    [
        ((4, 5, 1), False, "Quality is left out: run_data has no labels."),
        ((6,), True, "Quality is left out: examples of shape (6,) are no images."),
        ((3, 5, 1), True, "needs at least 4 x 4 pixels, and examples have shape (3, 5, 1)."),
    ],
)
def test_why_there_is_none(labeled, make_run, tmp_path, shape, with_labels, said):
    x = np.random.default_rng(0).uniform(size=(60, *shape)).astype(np.float32)
    run = labeled(x, np.arange(60) % 2)[0] if with_labels else make_run(tmp_path / "none", x)
    found = judge.Judge(run).judge(run.splits.test.x)
    assert list(found) == ["quality_left_out"]
    assert said.replace("run_data", run.splits.name) in found["quality_left_out"]


def test_gray_values_of_which_nobody_knows_the_range(labeled, make_run):
    x = np.random.default_rng(0).uniform(0, 16, size=(60, 8, 8)).astype(np.float32)
    run, _ = labeled(x, np.arange(60) % 2, outputs="normal", corruption="gaussian")
    said = judge.Judge(run).judge(run.splits.test.x)["quality_left_out"]
    assert said.endswith("examples have shape (8, 8); --value_range tells that values are pixels.")


@pytest.mark.parametrize(("largest", "doubtful"), [(0.9, False), (0.4, True)])
def test_a_classifier_that_recognizes_nothing_is_no_judge(labeled, digits, largest, doubtful):
    x, y = digits
    run, _ = labeled(x[:40], y[:40])
    made = judge.Judge(run)
    p = np.full((40, 4), (1 - largest) / 3)
    p[:, 0] = largest
    made._probabilities = lambda x: p[: len(x)]
    found = made.judge(run.splits.test.x)
    assert found["quality_of_test_examples"]["confidence"] == pytest.approx(largest)
    said = found.get("warnings", [])
    assert len(said) == doubtful
    assert all("recognizes no class in 100% of the real test examples" in s for s in said)


@pytest.mark.parametrize(
    ("of_samples", "of_examples", "said"),
    [
        ([0.0, 0.96, 0.04], [0.5, 0.1, 0.4], ["96% of the samples are of class 1, and 10% of the"]),
        ([0.0, 0.96, 0.04], [0.0, 1.0, 0.0], []),
        ([0.4, 0.5, 0.1], [1.0, 0.0, 0.0], []),
    ],
)
def test_samples_of_one_class_are_said(of_samples, of_examples, said):
    found = judge._of_one_class(of_samples, np.array(of_examples))
    assert len(found) == len(said)
    assert all(part in sentence for part, sentence in zip(said, found, strict=True))


def test_the_labeled_examples_are_not_announced_again(labeled, digits, capsys):
    x, y = digits
    run, _ = labeled(x[:40], y[:40])
    capsys.readouterr()
    judge.Judge(run)
    assert run.splits.name not in capsys.readouterr().err
