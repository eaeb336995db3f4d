"""Probes of small stores, compared with scikit-learn, and errors for invalid arguments."""

import json
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from thesis_tf.probes import fit
from thesis_tf.probes.features.shards import Column, ShardWriter, make_header, shard_name
from thesis_tf.probes.features.store import FeatureStore
from thesis_tf.probes.fit import fit_probes
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.taps import Tap

SPLITS = (300, 100, 200)


def write(folder, columns, predictions=(), dtype="float32"):
    """Writes a store from {tap: features} and {output: predictions}."""
    named = [(name, x, False) for name, x in columns.items()]
    named += [(name, x, True) for name, x in dict(predictions).items()]
    made = [
        Column(
            Tap(name, (None, x.shape[1]), dtype, "Dense"),
            x.shape[1],
            dtype,
            f"{i}.npy",
            prediction=own,
        )
        for i, (name, x, own) in enumerate(named)
    ]
    header = make_header(made, Reduction(), model="a model", data="a data set")
    with ShardWriter(folder / shard_name(0, 1), header) as writer:
        writer.append([x for _, x, _ in named])
        writer.finish()
    return FeatureStore(folder)


def separable(rng, labels, size=6, distance=1.0):
    """Returns features around one center per class."""
    centers = distance * rng.normal(size=(labels.max() + 1, size))
    return (centers[labels] + rng.normal(size=(len(labels), size))).astype("float32")


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(0).integers(0, 4, 600)


@pytest.fixture(scope="module")
def store(labels, tmp_path_factory):
    rng = np.random.default_rng(1)
    near, far = separable(rng, labels), separable(rng, labels, 9, 2.0)
    own = near @ rng.normal(size=(6, 4)).astype("float32")
    p = np.exp(own - own.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    predictions = {"logits": own, "softmax": p, "other": near}
    return write(tmp_path_factory.mktemp("store"), {"near": near, "far": far}, predictions)


def fitted(store, labels, splits=SPLITS, **options):
    return fit_probes(store, labels, splits, verbose=0, **{"l2": [0.01], **options})


def same(report, other):
    pairs = zip(report.probes, other.probes, strict=True)
    return all(
        a.metrics == b.metrics and (a.solution.weights == b.solution.weights).all()
        for a, b in pairs
    )


def cross_entropy(probe, x, labels):
    z = x.astype("float64") @ probe.solution.weights + probe.solution.bias
    return (np.log(np.exp(z).sum(1)) - z[range(len(z)), labels]).mean()


def test_probes_are_those_of_scikit_learn(store, labels):
    report = fitted(store, labels, tol=1e-7)
    assert [probe.tap.name for probe in report.probes] == ["near", "far"]
    for probe in report.probes:
        x = store.read(probe.tap.name).astype("float64")
        mean, scale = x[:300].mean(0), x[:300].std(0)
        z = (x - mean) / scale
        model = LogisticRegression(C=1 / (0.01 * 300), tol=1e-10, max_iter=10000)
        model.fit(z[:300], labels[:300])
        # f is 0.01-strongly convex: the weights are within sqrt(2 tol / 0.01) of the best.
        weights = probe.solution.weights * scale[:, None]
        assert np.linalg.norm(weights - model.coef_.T) < np.sqrt(2e-7 / 0.01)
        for split, part in {"train": slice(300), "validation": slice(300, 400)}.items():
            p = model.predict_log_proba(z[part])
            nats = -p[range(len(p)), labels[part]].mean()
            assert probe.metrics[split].cross_entropy == pytest.approx(nats, abs=1e-2)
            error = 1 - model.score(z[part], labels[part])
            assert probe.metrics[split].error == pytest.approx(error, abs=0.01)
            assert probe.metrics[split].examples == len(p)
        assert probe.solution.converged
        assert probe.metrics["test"].examples == 200


@pytest.mark.slow
def test_l2_is_the_one_of_least_validation_cross_entropy(store, labels):
    values = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001]
    report = fitted(store, labels, l2=values, tol=1e-5)
    for index, probe in enumerate(report.probes):
        x = store.read(probe.tap.name)[300:400]
        each = {
            l2: cross_entropy(
                fitted(store, labels, l2=[l2], tol=1e-5).probes[index],
                x,
                labels[300:400],
            )
            for l2 in values
        }
        assert probe.solution.l2 == min(each, key=each.get)
        least = pytest.approx(min(each.values()), abs=1e-3)
        assert probe.metrics["validation"].cross_entropy == least
        assert probe.solution.suboptimality <= 1e-5


def test_a_unit_that_hardly_fires_in_training_does_not_choose_l2(labels, tmp_path):
    rng = np.random.default_rng(2)
    x = separable(rng, labels)
    odd = np.zeros((600, 1), "float32")
    odd[:3], odd[350] = 2e-5, 0.06  # 42,000 standard deviations in one validation example
    with_odd = write(tmp_path / "with", {"x": np.hstack([x, odd])})
    without = write(tmp_path / "without", {"x": x})
    (found,), (wanted,) = (fitted(s, labels, l2=fit.L2).probes for s in (with_odd, without))
    # It is taken to be as far out as the examples of training can be: its loss is a few nats of
    # the hundred examples, and moves the choice by a step of the path at most.
    assert wanted.solution.l2 / 3.2 <= found.solution.l2 <= 3.2 * wanted.solution.l2
    for split, share in {"validation": 0.1, "test": 0.02}.items():
        difference = found.metrics[split].cross_entropy - wanted.metrics[split].cross_entropy
        assert abs(difference) < share


def test_labels_that_hardly_show_are_not_given_up_at_large_l2(tmp_path):
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 4000)
    # Centers a quarter of a standard deviation apart: labels save about .008 nats.
    x = (rng.normal(size=(4000, 1)) + 0.25 * (y[:, None] - 0.5)).astype("float32")
    store = write(tmp_path, {"x": x})
    splits = (2000, 1000, 1000)
    (found,) = fitted(store, y, splits, l2=fit.L2, tol=1e-4).probes
    each = [fitted(store, y, splits, l2=[l2], tol=1e-4).probes[0] for l2 in fit.L2]
    least = min(probe.metrics["validation"].cross_entropy for probe in each)
    assert least < each[0].metrics["validation"].cross_entropy - 1e-3
    assert found.metrics["validation"].cross_entropy < least + 1e-4


def test_features_whose_squares_overflow_are_an_error(labels, tmp_path):
    x = separable(np.random.default_rng(4), labels).astype("float64") * 1e200
    with pytest.raises(ValueError, match=r"Tap 'x': Feature 0 must be finite, and within ±1e\+152"):
        fitted(write(tmp_path, {"x": x}, dtype="float64"), labels)


def test_l2_may_come_in_any_order(store, labels):
    assert same(
        fitted(store, labels, l2=[0.1, 0.001, 0.01]),
        fitted(store, labels, l2=(0.01, 0.1, 0.001, 0.1)),
    )


SAME = {
    "counts": SPLITS,
    "slices": {"train": slice(300), "validation": slice(300, 400), "test": slice(400, None)},
    "slices from the end": {
        "train": slice(0, -300), "validation": slice(-300, -200), "test": slice(-200, 600),
    },
    "indices": {
        "train": np.arange(300), "validation": list(range(300, 400)), "test": np.arange(400, 600),
    },
    "masks": {
        "train": np.arange(600) < 300,
        "validation": (np.arange(600) >= 300) & (np.arange(600) < 400),
        "test": np.arange(600) >= 400,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", SAME)
def test_splits_may_be_given_in_many_ways(store, labels, kind):
    assert same(fitted(store, labels, SAME[kind]), fitted(store, labels))


def test_scattered_rows_are_those_rows(store, labels, tmp_path):
    order = np.random.default_rng(2).permutation(600)
    moved = write(tmp_path, {tap.name: store.read(tap.name)[order] for tap in store.taps})
    places = np.argsort(order)
    splits = {"train": places[:300], "validation": places[300:400], "test": places[400:]}
    assert same(fitted(moved, labels[order], splits), fitted(store, labels))
    every = fitted(store, labels, {"train": slice(0, 600, 2), "test": slice(1, 600, 2)})
    halves = {"train": np.arange(0, 600, 2), "test": np.arange(1, 600, 2)}
    assert same(every, fitted(store, labels, halves))


def test_a_single_penalty_needs_no_validation_and_nothing_needs_a_test(store, labels):
    report = fitted(store, labels, {"train": slice(300)})
    assert [list(probe.metrics) for probe in report.probes] == [["train"]] * 2
    assert report.probes[0].error == report.probes[0].metrics["train"].error
    with_validation = fitted(store, labels, (300, 100), l2=[0.1, 0.01])
    assert with_validation.probes[0].split == "validation"


@pytest.mark.parametrize(
    ("splits", "error", "message"),
    [
        ((300, 300, 100), ValueError, "'test' must be within 600 examples"),
        ((300, 100, 100, 100), ValueError, "numbers of examples of train, validation, test"),
        ((300, 0, 100), ValueError, "`splits` must be a positive integer. Received: 0"),
        ({"train": slice(300), "test": []}, ValueError, "'test' must be at least one example"),
        ({"validation": slice(100)}, ValueError, "a dict with train"),
        ({"train": slice(100), "test": slice(99, 200)}, ValueError, "'test' overlaps 'train'"),
        ({"train": slice(601)}, ValueError, "within 600 examples"),
        ({"train": [0, 600]}, ValueError, "0 to 600"),
        ({"train": [-1, 5]}, ValueError, "-1 to 5"),
        ({"train": np.ones(599, bool)}, ValueError, "a mask"),
        ({"train": [0.0, 1.0]}, TypeError, "indices or a mask"),
        ({"train": [[0, 1]]}, TypeError, "indices or a mask"),
        ({"train": slice(300, 200)}, ValueError, "at least one example"),
    ],
)
def test_bad_splits(store, labels, splits, error, message):
    with pytest.raises(error, match=message):
        fitted(store, labels, splits)


def test_several_l2_need_validation(store, labels):
    with pytest.raises(ValueError, match="chosen on the validation examples"):
        fitted(store, labels, {"train": slice(300)}, l2=[0.1, 0.01])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda y: y[:-1], ValueError, r"\(600,\).*Received: \(599,\)"),
        (lambda y: np.eye(4)[y], ValueError, r"\(600,\).*Received: \(600, 4\)"),
        (lambda y: y.astype(float), TypeError, "integers"),
        (lambda y: y - 1, ValueError, "a smallest value of -1"),
        (lambda y: np.where(np.arange(600) < 300, 2, y), ValueError, "class 2 only"),
    ],
)
def test_bad_labels(store, labels, change, error, message):
    with pytest.raises(error, match=message):
        fitted(store, change(labels))
    with pytest.raises(error, match=f"`labels` 'odd'.*{message}"):
        fitted(store, {"class": labels, "odd": change(labels)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2": []}, "`l2`"),
        ({"l2": [0.1, 0.0]}, "`l2`"),
        ({"l2": [-1.0]}, "`l2`"),
        ({"l2": [float("nan")]}, "`l2`"),
        ({"l2": [float("inf")]}, "`l2`"),
        ({"tol": 0}, "`tol`"),
        ({"tol": float("nan")}, "`tol`"),
    ],
)
def test_bad_options(store, labels, options, message):
    with pytest.raises(ValueError, match=message):
        fitted(store, labels, **options)


def test_no_labels(store):
    with pytest.raises(ValueError, match="`labels`"):
        fitted(store, {})


def test_a_column_of_labels_is_labels(store, labels):
    assert same(fitted(store, labels[:, None].astype("uint8")), fitted(store, labels))


def test_class_names_count_the_classes(store, labels):
    report = fitted(store, labels, class_names=list("abcdef"))
    assert report.class_names == tuple("abcdef")
    assert [probe.classes for probe in report.probes] == [6, 6]
    assert report.probes[0].solution.weights.shape == (6, 6)
    assert report.model_error["class"].keys() == {"other"}
    # Classes that never occur don't affect the others.
    plain = fitted(store, labels)
    for probe, other in zip(report.probes, plain.probes, strict=True):
        assert probe.metrics["test"].error == other.metrics["test"].error
        assert (probe.solution.weights[:, :4] == other.solution.weights).all()
    with pytest.raises(ValueError, match="`class_names` must be 4 names"):
        fitted(store, labels, class_names=list("abc"))


def test_several_sets_of_labels(store, labels):
    named = {"class": labels, "odd": labels % 2, "high": labels // 2}
    report = fitted(store, named, class_names=list("abcd"), control=True)
    assert [(p.tap.name, p.labels, p.classes) for p in report.probes] == [
        (tap, name, classes)
        for tap in ("near", "far")
        for name, classes in {"class": 4, "odd": 2, "high": 2}.items()
    ]
    assert report.label_names == list(named)
    assert report.class_names == tuple("abcd")
    for name, y in named.items():
        alone = fitted(store, {name: y}, control=True)
        for probe in alone.probes:
            joint = report.probe(probe.tap.name, labels=name)
            assert joint.metrics == probe.metrics
            assert joint.control == probe.control
        assert report.chance[name] == alone.chance[name]
        assert report.model_error[name] == alone.model_error[name]
    assert set(report.model_error["odd"]) == set()


def test_shuffled_labels_are_no_better_than_chance(store, labels):
    report = fitted(store, labels, control=True, seed=5)
    for probe in report.probes:
        error = probe.control["test"].error
        # Independent of the features: an error of 3/4, up to sqrt(3/4 1/4 / 200) = 0.031.
        assert abs(error - 0.75) < 4 * 0.031
        assert probe.selectivity == error - probe.metrics["test"].error
        assert probe.selectivity > 0.1
    assert fitted(store, labels, control=True, seed=5).probes[0].control == report.probes[0].control
    assert fitted(store, labels, control=True, seed=6).probes[0].control != report.probes[0].control
    assert fitted(store, labels).probes[0].selectivity is None


def test_chance_names_the_commonest_class_of_training(store):
    labels = np.r_[np.zeros(200), np.ones(100), np.ones(250), np.zeros(50)].astype(int)
    assert fitted(store, labels).chance == {"class": 0.75}
    assert fitted(store, labels, (300, 250)).chance == {"class": 1.0}
    assert fitted(store, labels, {"train": slice(300)}).chance == {"class": pytest.approx(1 / 3)}


def test_the_models_own_error(store, labels):
    report = fitted(store, labels)
    logits = store.read("prediction:logits").astype("float64")
    nats = np.log(np.exp(logits).sum(1)) - logits[range(600), labels]
    # "other" has six columns: it can't be for four classes.
    assert report.model_error["class"].keys() == {"logits", "softmax"}
    for output in report.model_error["class"].values():
        for split, part in {"train": slice(300), "test": slice(400, 600)}.items():
            wrong = (logits.argmax(1) != labels)[part]
            assert output[split].error == wrong.mean()
            assert output[split].cross_entropy == pytest.approx(nats[part].mean(), rel=1e-5)
    assert set(report.model_error["class"]["logits"]) == {"train", "validation", "test"}


@pytest.mark.slow
@pytest.mark.parametrize("splits", ["counts", "masks"])
def test_features_that_do_not_fit_in_memory(store, labels, splits, monkeypatch):
    kept = fitted(store, labels, tol=1e-6, l2=[0.1, 0.01], control=True)
    monkeypatch.setattr(fit, "BLOCK", 1000)
    streamed = fitted(
        store, labels, SAME[splits], tol=1e-6, l2=[0.1, 0.01], control=True, memory_limit=0
    )
    for probe, other in zip(streamed.probes, kept.probes, strict=True):
        # Both losses are within `tol` of the minimum, and both weights within sqrt(2 tol / l2) of
        # the best weights.
        assert probe.solution.l2 == other.solution.l2
        scale = store.read(probe.tap.name)[:300].std(0)[:, None]
        apart = np.linalg.norm((probe.solution.weights - other.solution.weights) * scale)
        assert apart < 2 * np.sqrt(2e-6 / probe.solution.l2)
        rounding = 8 * float(np.finfo(np.float32).eps)  # for logits below 8
        assert probe.solution.loss == pytest.approx(other.solution.loss, abs=1e-6 + rounding)
        assert probe.metrics["test"].cross_entropy == pytest.approx(
            other.metrics["test"].cross_entropy, abs=1e-2
        )
    assert len(list(fit._blocks(store, "near", slice(0, 300)))) > 5


def test_blocks_are_bounded_by_the_logits_too(store, monkeypatch):
    monkeypatch.setattr(fit, "BLOCK", 4000)
    for rows in (slice(100, 400), np.arange(100, 400)):
        found = list(fit._blocks(store, "near", rows, width=100))
        assert [(first, len(block)) for first, block in found] == [
            (first, 10) for first in range(0, 300, 10)
        ]


def test_float64_stores_are_fitted_in_float64(labels, tmp_path):
    x = separable(np.random.default_rng(0), labels).astype("float64")
    report = fitted(write(tmp_path, {"wide": x}, dtype="float64"), labels, tol=1e-10)
    solution = report.probes[0].solution
    assert solution.weights.dtype == solution.bias.dtype == np.float64
    assert solution.converged


def test_the_report_says_where_it_comes_from(store, labels):
    report = fitted(store, labels)
    assert (report.model, report.data) == (store.model, store.data)
    assert report.reduction == store.reduction
    assert [probe.tap for probe in report.probes] == store.taps
    json.dumps(report.to_json(), allow_nan=False)


def test_steps_count_the_whole_path(store, labels):
    path = fitted(store, labels, l2=[1.0, 0.1, 0.01])
    alone = fitted(store, labels, l2=[path.probes[0].solution.l2])
    assert path.probes[0].solution.evaluations > alone.probes[0].solution.evaluations


def read_only(values):
    values.flags.writeable = False
    return values


# {name: function from labels (600,) in [0, 4) to the same labels in another form}.
FORMS = {
    "uint8": lambda y: y.astype("uint8"),
    "int16, big-endian": lambda y: y.astype(">i2"),
    "int64, big-endian": lambda y: y.astype(">i8"),
    "uint64": lambda y: y.astype("uint64"),
    "(n, 1)": lambda y: y[:, np.newaxis],
    "a list": lambda y: y.tolist(),
    "not contiguous": lambda y: np.stack([y, -y], 1)[:, 0],
    "reversed twice": lambda y: y[::-1].copy()[::-1],
    "read-only": lambda y: read_only(y.copy()),
}


@pytest.mark.parametrize("name", FORMS)
def test_labels_of_any_form_are_the_same(store, labels, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(fitted(store, FORMS[name](labels)), fitted(store, labels))


@pytest.mark.parametrize("numbers", [[1, 2, 3, 4], [0, 7, 8, 90], [90, 3, 2, 1]])
def test_gaps_between_labels_change_nothing(store, labels, numbers):
    order = np.argsort(numbers)  # classes are in the order of their numbers
    plain, found = (
        fitted(store, np.argsort(order)[labels]),
        fitted(store, np.array(numbers)[labels]),
    )
    for probe, other in zip(plain.probes, found.probes, strict=True):
        assert other.classes == max(numbers) + 1
        for split, m in probe.metrics.items():
            assert other.metrics[split].error == m.error
            assert other.metrics[split].cross_entropy == pytest.approx(m.cross_entropy, abs=1e-6)
    assert found.chance == plain.chance


@pytest.mark.parametrize(
    ("of", "error", "match"),
    [
        (lambda y: y + 2**40, ValueError, r"`labels` must be in \[0, K\), with K up to 100,000"),
        (lambda y: y * 10**6, ValueError, r"4 different values.*np.unique\(labels"),
        (lambda y: y.astype("uint64") + 2**63, ValueError, r"Number them from 0"),
        (lambda y: y - 1, ValueError, "a smallest value of -1"),
        (lambda y: y + 0.0, TypeError, "`labels` must be integers. Received: float64"),
        (lambda y: np.eye(4)[y], ValueError, r"one for each example"),
        (lambda y: y.astype(str), TypeError, "`labels` must be integers"),
    ],
)
def test_labels_that_are_refused(store, labels, of, error, match):
    with pytest.raises(error, match=match):
        fitted(store, of(labels))


def test_a_class_that_is_not_in_training_is_named(store, labels):
    order = np.argsort(labels, kind="stable")
    by_class = {"train": order[:400], "validation": order[400:450], "test": order[450:]}
    with pytest.warns(UserWarning, match=r"No training example has the `labels` 3, but \d+ of"):
        report = fitted(store, labels, by_class)
    assert report.probes[0].metrics["test"].error == 1.0


def test_a_class_without_training_examples_costs_the_same_wherever_features_are(tmp_path):
    rng = np.random.default_rng(5)
    y = np.r_[np.arange(300) % 2, np.full(30, 2)]
    x = (rng.normal(size=(330, 4)) + y[:, None]).astype("float32")
    found = []
    for offset in (0.0, 1e4):
        store = write(tmp_path / str(offset), {"x": (x + np.float32(offset)).astype("float32")})
        with pytest.warns(UserWarning, match="No training example"):
            report = fitted(store, y, {"train": slice(300), "test": slice(300, None)})
        found.append(report.probes[0].metrics["test"].cross_entropy)
    # Features at 1e4 are rounded by .001.
    assert found[0] == pytest.approx(found[1], abs=0.1)


@pytest.mark.parametrize("counts", [(300, 0, 100), (300, -100, 200), (0.5, 0.25, 0.25)])
def test_counts_of_splits_are_positive_whole_numbers(store, labels, counts):
    with pytest.raises((TypeError, ValueError), match="`splits` must be a positive integer"):
        fitted(store, labels, counts)


def test_a_probe_that_can_do_nothing_is_at_chance_and_not_below(tmp_path):
    # The optimal weights are so small that 0 is within `tol`: all logits of an example are equal.
    labels = np.tile([0, 1, 2], 40)
    x = np.random.default_rng(0).normal(size=(120, 4)).astype("float32")
    store = write(tmp_path, {"x": x})
    (probe,) = fitted(store, labels, (60, 30, 30), l2=[1e4], tol=0.1).probes
    assert not probe.solution.weights.any()
    for metrics in probe.metrics.values():
        assert metrics.error == pytest.approx(2 / 3)
