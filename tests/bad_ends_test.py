"""Results that can't be trusted say so in their table, their JSON, their pictures and the status.

A job's own diagnostics are in its tests; here are results of the library, and the ends of programs.
"""

import importlib
import json
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import flagsaver

from bin.common import runs
from bin.reproduction.engine import plan
from thesis_tf import autoencoders, hessian, mcmc, probes

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype("f")
Y = np.arange(60) % 2
PARTS = {"train": slice(40), "validation": slice(40, 50), "test": slice(50, 60)}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="dense")])
    return probes.extract(model, X, tmp_path_factory.mktemp("store") / "features", verbose=0)


def probed(store, good):
    # No float32 gradient is as small as the second bound requires.
    return probes.fit_probes(store, Y, PARTS, tol=1e-2 if good else 1e-300, verbose=0)


class Matrix:
    """A symmetric operator with 200 eigenvalues from 0 to 1."""

    dtype, shape = np.dtype("float64"), (200, 200)

    def __init__(self):
        basis = np.linalg.qr(np.random.default_rng(0).normal(size=self.shape))[0]
        self._matrix = basis @ np.diag(np.linspace(0, 1, 200)) @ basis.T

    def __matmul__(self, v):
        product = self._matrix @ np.asarray(v)
        return product if isinstance(v, np.ndarray) else tf.constant(product)


def eigenpairs(good):
    search = hessian.SearchOptions(max_products=1000 if good else 14)
    return hessian.extreme_eigenpairs(
        Matrix(), largest=2, smallest=2, tol=1e-6, search=search, verbose=0
    )


def history(good):
    entries = [
        hessian.SpectrumEntry(step, 1.0, (2.0, 1.0), (-1.0,), good or step != 5, 9)
        for step in (0, 5, 9)
    ]
    return hessian.SpectrumHistory(tuple(entries))


def compared(good):
    none = hessian.SpectrumDifference(*[np.zeros(0)] * 5)
    return hessian.SubsetComparison(none, none, eigenpairs(True), eigenpairs(good))


def fitted(good):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    # The optimum of a linear r is known, and L-BFGS is there after some twenty iterations.
    return autoencoders.fit_full_batch(
        model, autoencoders.DenoisingLoss(0.5), X, max_iterations=500 if good else 1, tol=1e-6
    )


def walks(good):
    score = autoencoders.ScoreEstimator(lambda x: x / 1.25, sigma=0.5)
    return autoencoders.metropolis_hastings(
        score, X.astype(float), 1000, 1.5 if good else 1e-3, verbose=0
    )


def settled(good):
    # By x -> .9 x points come to rest at 0; by x -> x + 1 they never do.
    score = autoencoders.ScoreEstimator(lambda x: 0.9 * x if good else x + 1, sigma=0.5)
    starts = np.random.default_rng(1).normal(size=(10, 2))
    return autoencoders.find_attractors(score, X[:, :2].astype(float), starts, max_iterations=300)


RESULTS = {  # name: (a function from the store and whether it is good, what is said, picture)
    "probes": (probed, " of 2 probes have not converged: the loss at ", None),
    "curve": (probed, "probes have not converged", probes.draw_curves),
    "network": (probed, "probes have not converged", probes.draw_networks),
    "eigenpairs": (lambda _, good: eigenpairs(good), "of 4 eigenpairs have not converged: |Hv",
                   hessian.draw_eigenvalues),
    "eigenvalues over training": (
        lambda _, good: history(good), "At 1 of 3 steps (5) eigenpairs have not converged.",
        hessian.draw_history,
    ),
    "subset": (lambda _, good: compared(good), "Of the subset, ", None),
    "full-batch fit": (lambda _, good: fitted(good), "has not converged in 1 iterations: ", None),
    "chains": (lambda _, good: walks(good), "The chains have not mixed: R-hat ", None),
    "attractors": (lambda _, good: settled(good), "of the 10 starts did not come to rest",
                   autoencoders.draw_attractors),
}  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_what_results_say_of_themselves(name, store, tmp_path, said_in_pictures):
    make, expected, draw = RESULTS[name]
    for good in (True, False):
        result = make(store, good)
        said = result.warnings()
        assert bool(said) != good
        assert all(sentence in result.table() for sentence in said)
        assert all(sentence.partition(":")[0] in result._repr_html_() for sentence in said)
        if draw is not None:
            draw(result, tmp_path / "a.svg", title="A title")
            assert "A title" in said_in_pictures["a.svg"]
            assert (expected in said_in_pictures["a.svg"]) != good
    assert any(expected in sentence for sentence in said), said


def test_a_report_of_probes_says_it_in_every_form(store, tmp_path, said_in_pictures):
    report = probed(store, False)
    (said,) = report.warnings()
    report.save(tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["warnings"] == [said]
    assert (tmp_path / "report.md").read_text().endswith(f"|\n\n{said}\n")  # below the table
    assert probes.ProbeReport.load(tmp_path).warnings() == [said]
    probes.draw_curves({"start": probed(store, True), "end": report}, tmp_path / "both.png")
    assert f"end: {said}" in said_in_pictures["both.png"]
    assert "start: " not in said_in_pictures["both.png"]


class Report:
    """What a job returns to the program, in any of the forms that it takes."""

    table = staticmethod(str)


def figures(sentences):
    figure = types.SimpleNamespace(label="Figure 3.4")
    entry = types.SimpleNamespace(figure=figure, warnings=sentences, status="done", claims=())
    return [entry]


THEORY = {
    "propositions": {"distance": {}},
    "theorem_4": {"held": 1, "perturbations": 1},
    "histogram": {"p_value": 1.0},
    "manifold": {"chains": {"two_sample_accuracy": 0.5}},
}
# {program: (where the function is that does its job, what this returns, flags)}. bin.issgd_master
# ends as bin.issgd_peer, and has a flag of the name of another one of bin.probe.
PROGRAMS = {
    "train": ("bin.train.run", {"loss": 1.0}, {}),
    "probe": ("bin.probe.run", {"": Report}, {}),
    "hessian": ("bin.hessian.run", Report, {}),
    "dae": ("bin.dae.run", {}, {}),
    "gsn": ("bin.gsn.run", {}, {}),
    "gsn_theory": ("bin.gsn_theory.run", THEORY, {}),
    "issgd_peer": ("bin.issgd_peer.run", {"loss": 1.0}, {"peer_name": "a"}),
    "issgd_compare": ("bin.issgd_compare.run", "a table", {}),
    "reproduce": ("bin.reproduce.run", None, {"figures": ["3.4"]}),
}


@pytest.mark.parametrize("sentences", [[], ["R-hat 5."], ["R-hat 5.", "Not converged."]], ids=len)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_ends_with_what_its_job_doubts(program, sentences, tmp_path, monkeypatch, capsys):
    where, result, given = PROGRAMS[program]
    heard = [f"Figure 3.4: {s}" for s in sentences] if program == "reproduce" else sentences

    def job(*args, begin=lambda *args: None, warn=None, **options):
        begin(*[] if program == "gsn_theory" else ["inputs"])
        if warn is not None:
            for sentence in sentences:
                warn(sentence)
        if program == "gsn_theory":
            return {**result, "warnings": sentences}
        return figures(sentences) if program == "reproduce" else result

    module, _, name = where.rpartition(".")
    monkeypatch.setattr(importlib.import_module(module), name, job)
    monkeypatch.setattr("bin.reproduction.engine.verdicts.summary", str)
    monkeypatch.setattr(plan.Plan, "__init__", lambda *args: None)
    monkeypatch.setattr(runs, "_BEGUN", {})
    main = importlib.import_module(f"bin.{program}").main
    with flagsaver.flagsaver(output_dir=str(tmp_path / "out"), **given):
        if sentences:
            with pytest.raises(SystemExit) as ended:
                main([program])
            assert ended.value.code == 3
        else:
            main([program])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("warning: ")] == [
        f"warning: {sentence}" for sentence in heard
    ]
    if sentences:
        assert lines[-1] == f"warning: {heard[-1]}"
    outcome = json.loads((tmp_path / "out/outcome.json").read_text())
    assert (outcome["status"], outcome["warnings"]) == (3 if sentences else 0, heard)


def test_good_chains_are_those_of_the_gaussian():
    assert isinstance(walks(True), mcmc.Chains)
    np.testing.assert_allclose(walks(True).samples[50:].var(), 1.25, rtol=0.1)
