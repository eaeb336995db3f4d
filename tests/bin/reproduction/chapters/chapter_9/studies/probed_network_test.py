import dataclasses
import types

import keras
import numpy as np
import pytest

import models
from bin.reproduction.chapters.chapter_9.studies import probed_network
from bin.reproduction.engine.contract import Sources

TINY = probed_network.Config(
    model="mlp",
    examples=(64, 16, 16),
    moments=(0, 3, 5),
    batch_size=16,
    learning_rate=1e-2,
    taps=("input", "fc2_relu", "logits"),
    reduction="flatten",
    probed=(40, 20, 30),
)


def losses(found):
    return [
        moment["report"]["model_error"]["class"]["output"]["train"]["cross_entropy"]
        for moment in found["moments"]
    ]


@pytest.mark.slow
def test_a_network_is_probed_while_it_learns():
    found = probed_network.reports(TINY)
    assert [moment["step"] for moment in found["moments"]] == [0, 3, 5]
    assert found["examples"] == {"train": 40, "validation": 20, "test": 30}
    assert found["trained_on"] == 64
    assert found["preprocessing"] == "default"
    for moment in found["moments"]:
        names = [probe["tap"]["name"] for probe in moment["report"]["probes"]]
        assert names == ["input", "fc2_relu", "logits"]
    first, *_, last = losses(found)
    assert last < first
    # A probe of the input doesn't depend on the network.
    inputs = [moment["report"]["probes"][0]["metrics"] for moment in found["moments"]]
    assert inputs[0] == inputs[2]
    # The same training with fewer moments; probing doesn't change it.
    whole = probed_network.reports(dataclasses.replace(TINY, moments=(5,)))
    assert losses(whole) == pytest.approx([last], rel=1e-4)
    other = probed_network.reports(dataclasses.replace(TINY, moments=(0,)).settled(Sources(), 1))
    assert other["trained_on"] == 0
    assert abs(losses(other)[0] - first) > 1e-3


def test_the_scale_of_pixels_is_read_off_the_weights(monkeypatch):
    scales = {"tf": lambda x: x / 127.5 - 1, "unit": lambda x: x / 255}
    x = np.full((8, 4, 4, 3), 200.0, np.float32)
    splits = types.SimpleNamespace(train=types.SimpleNamespace(x=x), num_classes=10)
    config = dataclasses.replace(
        TINY, preprocessing=probed_network.FITTING, weights="inception_weights", momentum=0.5
    ).settled(Sources(inception_weights="there"), 0)
    for seen, expected in ((0.57, "tf"), (0.78, "unit")):

        def build(name, shape, classes, *, weights, preprocessing, seen=seen, **options):
            assert classes is None
            assert weights == "there"
            inputs, normalization = keras.Input(shape), keras.layers.BatchNormalization()
            model = keras.Model(inputs, normalization(scales[preprocessing](inputs)))
            normalization.moving_mean.assign([seen] * 3)
            return model

        monkeypatch.setattr(models, "build", build)
        model, preprocessing = probed_network._built(config, splits)
        assert preprocessing == expected
        assert model.layers[-1].momentum == 0.5
