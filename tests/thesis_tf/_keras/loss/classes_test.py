"""Labels that aren't classes of the outputs are refused alike by all tools, before any work."""

import keras
import numpy as np
import pytest
from keras import layers

from thesis_tf import gradient_norms, hessian, issgd
from thesis_tf._keras.loss.classes import ClassCheck
from thesis_tf._keras.objective import Objective

X = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
Y = np.arange(20) % 10
SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
NUMBER, GIVE = "Number the classes from 0.", "10 outputs: give it one for each class."


def network(classes=10):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((3,)), layers.Dense(classes)])


def norms(y):
    gradient_norms.per_example_gradient_norms(network(), SPARSE)(X, y)


def with_gradients(y):
    function = gradient_norms.per_example_gradient_norms(network(), SPARSE)
    function.with_gradients(X, y, np.ones(20, "float32"))


def operator(y):
    hessian.HessianOperator(network(), SPARSE, (X, y), batch_size=8)


def operator_of_weighted_data(y):
    hessian.GaussNewtonOperator(network(), SPARSE, (X, y, np.ones(20, "float32")))


def trainer(y):
    model = network()
    model.compile("sgd", SPARSE)
    issgd.Trainer(model, {"train": (X, y)}, batch_size=4)


def sampling(y):
    model = network()
    model.compile("sgd", SPARSE)
    drawn = issgd.ImportanceSampling(X, y, batch_size=4)
    model.fit(drawn.dataset, callbacks=[drawn], verbose=0)


TOOLS = [norms, with_gradients, operator, operator_of_weighted_data, trainer, sampling]
WRONG = {
    "from 1": (Y + 1, "1 to 10", NUMBER),
    "one too large": (np.where(Y == 3, 12, Y), "0 to 12", GIVE),
    "one missing": (np.where(Y == 3, -1, Y), "-1 to 9", "2 are negative: remove or relabel"),
    "floats": ((Y + 1).astype("float32"), "1 to 10", NUMBER),
    "a column": ((Y + 1)[:, np.newaxis], "1 to 10", NUMBER),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_labels_that_are_no_classes(tool, wrong):
    y, received, advice = WRONG[wrong]
    with pytest.raises(ValueError, match=r"The labels must be in \[0, 10\)\.") as error:
        tool(y)
    assert f"Received: {received}." in str(error.value)
    assert advice in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def outputs(names):
    inputs = keras.Input((3,))
    return keras.Model(inputs, {name: layers.Dense(4, name=name)(inputs) for name in names})


IGNORING = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
RIGHT = {
    "classes": (network(), SPARSE, Y),
    "by name": (network(), "sparse_categorical_crossentropy", Y),
    "a label to ignore": (network(), IGNORING, np.where(Y == 3, -1, Y)),
    "one-hot": (network(), "categorical_crossentropy", np.eye(10)[Y]),
    "one-hot, by shape": (network(), "crossentropy", 20 * np.eye(10)[Y]),
    "numbers": (network(1), "mse", Y[:, np.newaxis] + 100.0),
    "another output without a loss": (outputs("ba"), {"b": SPARSE}, {"b": Y % 4, "a": Y}),
    "another output with numbers": (
        outputs("ba"), {"b": SPARSE, "a": "mse"}, {"b": Y % 4, "a": np.tile(Y[:, None], 4)}
    ),
    "a function of one's own": (network(), lambda y, out: SPARSE.call(y - 1, out), Y + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_labels_that_are_right(name):
    model, loss, y = RIGHT[name]
    ClassCheck(Objective(model, loss), X)([y])


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        ("sparse_categorical_crossentropy", Y + 1),
        ("crossentropy", Y + 1),
        (keras.losses.sparse_categorical_crossentropy, Y + 1),
        (IGNORING, np.where(Y == 3, -2, Y)),
    ],
    ids=["name", "ce", "function", "another than is ignored"],
)
def test_other_forms_of_the_loss(loss, y):
    with pytest.raises(ValueError, match=r"in \[0, 10\)"):
        ClassCheck(Objective(network(), loss), X)([y])


def test_the_output_of_the_labels_counts():
    check = ClassCheck(Objective(outputs("ba"), {"b": SPARSE, "a": SPARSE}), X)
    with pytest.raises(ValueError, match=r"in \[0, 4\)\. Received: 0 to 9"):
        check([{"b": Y % 4, "a": Y}])


@pytest.mark.parametrize("first", [None, "sigmoid"])
def test_a_worker_reads_its_first_output(first):
    """The threshold of its classification errors is that of this output, whatever the others."""
    inputs = keras.Input((3,))
    heads = [layers.Dense(1, first)(inputs), layers.Dense(1)(inputs)]
    objective = Objective(keras.Model(inputs, heads), ["mse", "mse"])
    objective.needs_divisors(X, [X[:, :1], X[:, :1]])
    assert objective.ends_in_probabilities == (first == "sigmoid")
