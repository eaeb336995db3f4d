import keras
import pytest

from bin.common.flags import UsageError
from bin.jobs.issgd import config
from thesis_tf import issgd


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("10", issgd.Additive(10.0)),
        (".5", issgd.Additive(0.5)),
        ("relative:0.3", issgd.RelativeToMean(0.3)),
        ("uniform:.2", issgd.UniformMixture(0.2)),
        ("entropy:.9", issgd.TargetEntropy(0.9)),
    ],
)
def test_smoothing_rules(text, rule):
    assert config._is_smoothing(text)
    assert config.Draws(smoothing=text).rule() == rule


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "mean:1", "uniform:1", "entropy:0", "entropy:1", "relative:"]
)
def test_no_smoothing_rules(text):
    assert not config._is_smoothing(text)


def test_a_proposal_has_the_thresholds_of_the_flags():
    proposal = config.Draws(staleness=3, min_usable=0.5).proposal(8, 7)
    proposal.update(slice(0, 4), [1.0, 2.0, 3.0, 4.0], 0)
    assert (proposal.num_examples, proposal.usable, proposal.is_uniform) == (8, 0.5, False)
    proposal.advance(version=4)
    assert proposal.usable == 0


def test_names():
    assert config.is_name(None)
    assert config.is_name("a.b-c_1")
    assert not config.is_name("a/b")


def test_momentum_needs_sgd():
    config.SynchronizedTraining(optimizer="sgd", momentum=0.9).check()
    with pytest.raises(UsageError, match="--momentum requires --optimizer=sgd"):
        config.SynchronizedTraining(optimizer="adam", momentum=0.9).check()


def test_momentum_is_that_of_the_optimizer():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    config.SynchronizedTraining(optimizer="sgd", learning_rate=0.5, momentum=0.95).compile(model)
    found = model.optimizer.get_config()
    assert (found["momentum"], found["nesterov"], found["learning_rate"]) == (0.95, True, 0.5)
