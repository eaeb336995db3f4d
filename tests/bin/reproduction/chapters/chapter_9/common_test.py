import dataclasses

import pytest

from bin.reproduction.chapters.chapter_9 import common
from bin.reproduction.chapters.chapter_9.common import Measurement
from bin.reproduction.chapters.chapter_9.studies import probed_network
from bin.reproduction.engine.contract import Verdict


def report(own=None, **errors):
    """Returns a `ProbeReport` as JSON, as far as claims use it.

    Args:
        own: [(error, standard error)] of the model's outputs.
        **errors: {tap: (error, standard error)} of the probes.
    """

    def measures(error, spread):
        return {"test": {"error": error, "standard_error": spread}}

    return {
        "probes": [
            {"tap": {"name": tap}, "metrics": measures(*found)} for tap, found in errors.items()
        ],
        "edges": [list(pair) for pair in zip(errors, list(errors)[1:], strict=False)],
        "model_error": {"class": {str(i): measures(*found) for i, found in enumerate(own or [])}},
    }


def test_estimates():
    a, b = Measurement(0.2, 0.03), Measurement(0.1, 0.04)
    assert str(a) == "20.0 ± 3.0 %"
    assert a.above(b) == pytest.approx((0.1, 0.05))
    assert not a.above(b).told
    assert Measurement(-0.11, 0.05).told
    found = report(own=[(0.3, 0.01)], input=(0.5, 0.02), logits=(0.2, 0.01))
    assert common.errors(found) == {"input": (0.5, 0.02), "logits": (0.2, 0.01)}
    assert common.model_errors(found) == [(0.3, 0.01)]


def path(*values, error=0.01):
    return [Measurement(value, error) for value in values]


def test_a_descent():
    down = common.descent(path(0.8, 0.5, 0.52, 0.2))
    assert (down.steps, down.falling) == (3, 2)
    assert down.fall.value == pytest.approx(0.6)
    assert down.largest_step == pytest.approx(0.32)
    assert down.rise.value == pytest.approx(0.02)
    assert "2 of 3 steps go down, the largest by 32.0 %" in str(down)
    assert "above an earlier one by 2.0 ± 1.4 %" in str(down)
    assert "no error is above an earlier one" in str(common.descent(path(0.8, 0.5, 0.2)))


def test_rises_are_seen_across_steps():
    # Each single step may be chance, but not all of them together.
    down = common.descent(path(0.9, 0.3, 0.32, 0.34, 0.36))
    assert down.rise.value == pytest.approx(0.06)
    assert down.rises
    # The more significant of two rises counts, even if it is smaller.
    unclear = [
        Measurement(0.8, 0.2),
        Measurement(1.0, 0.2),
        Measurement(0.1, 0.01),
        Measurement(0.2, 0.01),
    ]
    assert common.descent(unclear).rise.value == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("values", "error", "told", "expected"),
    [
        ((0.8, 0.5, 0.51, 0.2), 0.01, True, Verdict.HOLDS),
        ((0.8, 0.5, 0.6, 0.2), 0.01, True, Verdict.DOES_NOT_HOLD),
        ((0.8, 0.5, 0.6, 0.2), 0.01, False, Verdict.CANNOT_TELL),
        # A step of mean size could not be detected.
        ((0.8, 0.7, 0.71, 0.6), 0.1, True, Verdict.CANNOT_TELL),
        ((0.2, 0.5, 0.8), 0.01, True, Verdict.DOES_NOT_HOLD),
    ],
)
def test_the_verdict_on_a_descent(values, error, told, expected):
    assert common.descent(path(*values, error=error)).verdict(told) == expected


def test_which_networks_tell():
    taps = {"input": (0.8, 0.01), "mixed0": (0.2, 0.01), "mixed10": (0.3, 0.01)}
    for own, rises, expected in (
        ([(0.21, 0.01)], True, True),
        ([(0.1, 0.01)], True, True),
        ([(0.3, 0.01)], False, False),  # its head doesn't use the information of mixed0 yet
        (None, False, True),
        (None, True, False),
    ):
        assert common.tells(report(own, **taps), rises) == expected


def test_the_main_path_of_inception():
    names = ("input", "mixed10", "aux_conv1_relu", "predictions", "aux_predictions")
    found = common.main_path(report(**dict.fromkeys(names, (0.5, 0.1))))
    assert list(common.errors(found)) == ["input", "mixed10"]
    assert found["edges"] == [["input", "mixed10"]]


def test_notes():
    config = probed_network.Config(model="mlp", moments=(0, 1500), batch_size=32)
    found = {"examples": {"train": 1200, "validation": 30, "test": 40}, "trained_on": 8100}
    assert common.examples_note(config, found) == (
        "Probes of the 10,000 bundled MNIST digits: 1,200 training, 30 validation and 40 test"
        " examples."
    )
    said = "The network was trained here on 8,100 examples for 1,500 steps of 32."
    assert common.training_note(config, found) == said
    short = dataclasses.replace(config, momentum=0.8)
    assert "over about 5 steps" in common.training_note(short, found)


def test_a_report_is_made_again():
    from thesis_tf import probes

    config = probed_network.Config(
        model="mlp", taps=("input", "logits"), probed=(30, 10, 10), reduction="flatten"
    )
    (moment,) = probed_network.reports(config)["moments"]
    again = common.report_of(moment)
    assert isinstance(again, probes.ProbeReport)
    assert again.to_json() == moment["report"]
