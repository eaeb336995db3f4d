"""No graph of the norms has a product by which TensorFlow's oneDNN corrupts memory.

It is that of a tensor of rank 4 that has an axis of size 1 with a matrix, see `examplewise`.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import gradient_norms
from thesis_tf.gradient_norms.examplewise import examplewise, has_unsafe_products

OPTIMIZED_GRAPHS = True

HERE = pathlib.Path(__file__).parent
spec = importlib.util.spec_from_file_location("no_batch_cases", HERE / "no_batch_cases.py")
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)

L = keras.layers
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
NAMES = [
    "a learnt token in front of attention",
    "windows with attention",
    "products of one's own",
    "attention from latents",
    "experts",
    "positions through layers",
]


class Own(L.Layer):
    """Attention and a product of a layer that has no rule for its own weight."""

    def __init__(self):
        super().__init__()
        self.attention = L.MultiHeadAttention(2, 4)

    def build(self, shape):
        self.w = self.add_weight(shape=(8, 8), name="w")
        self.attention.build(shape, shape)

    def call(self, x):
        x = tf.linalg.matmul(x, tf.sin(self.w)) / (2 + tf.cos(self.w[0]))
        return self.attention(x, x)


def mapped():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6, 8)), Own(), L.Flatten(), L.Dense(3)])


MODELS = {name: lambda name=name: cases.build(name) for name in NAMES} | {"mapped": mapped}


def graphs_of(graph):
    """Yields a graph and those of the functions that it calls, directly or not."""
    yield graph
    for op in graph.get_operations():
        for value in op.node_def.attr.values():
            for name in [value.func.name, *(f.name for f in value.list.func)]:
                if name:
                    yield from graphs_of(op.graph._get_function(name).graph)


def products(graph):
    """Yields (operation, shapes of both factors) of each product in such graphs."""
    for part in graphs_of(graph):
        for op in part.get_operations():
            if "MatMul" in op.type:
                yield op, [t.shape for t in op.inputs[:2]]


def graphs_of_norms(model, x, y):
    """Returns the graphs of all functions that norms of a batch run."""
    f = gradient_norms.per_example_gradient_norms(model, LOSS)
    f(x, y)
    f.with_gradients(x, y, np.ones(len(x), "f"))
    functions = [*f._functions.values(), f._plain_squares._traced]
    return [
        concrete.graph
        for function in functions
        for concrete in function._list_all_concrete_functions()
    ]


@pytest.mark.parametrize("name", MODELS)
def test_no_graph_has_such_a_product(name):
    model = MODELS[name]()
    seen = 0
    for graph in graphs_of_norms(model, *cases.data(model, 5)):
        for op, shapes in products(graph):
            seen += 1
            ranks = sorted(shape.rank for shape in shapes)
            assert not (ranks[0] == 2 and ranks[1] > 3), (op.name, op.type, shapes)
    assert seen


def test_the_walk_finds_such_a_product():
    @tf.function(autograph=False)
    def product(x, w):
        return tf.vectorized_map(lambda one: tf.linalg.matmul(one[tf.newaxis], w), x)

    graph = product.get_concrete_function(tf.TensorSpec((None, 3, 4)), tf.TensorSpec((4, 5))).graph
    ranks = [sorted(shape.rank for shape in shapes) for _, shapes in products(graph)]
    assert [2, 4] in ranks
    assert has_unsafe_products(graph)


@pytest.mark.parametrize("rank", [2, 3])
def test_examplewise_is_a_map(rank):
    """Whether all at once (products of rank 2), or one after the other."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(5, *[3] * (rank - 2), 4)), tf.constant(rng.normal(size=(4, 2)))

    @tf.function(autograph=False)
    def mapped(x):
        result = tf.TensorSpec((1, *x.shape[1:-1], 2), x.dtype)
        return examplewise(lambda one: [tf.linalg.matmul(one[tf.newaxis], w)], x, [result])

    found = mapped(tf.constant(x))[0]
    np.testing.assert_allclose(found, (x @ w.numpy())[:, np.newaxis], rtol=1e-12)
    graph = mapped.get_concrete_function(tf.constant(x)).graph
    kinds = {op.type for part in graphs_of(graph) for op in part.get_operations()}
    assert any("While" in kind for kind in kinds) == (rank == 3)


SCRIPT = """
import importlib.util, sys
import keras, numpy as np
spec = importlib.util.spec_from_file_location("no_batch_cases", sys.argv[1])
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)
from thesis_tf import gradient_norms
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
for name in sys.argv[2:]:
    model = cases.build(name)
    x, y = cases.data(model, 5)
    f = gradient_norms.per_example_gradient_norms(model, loss)
    for _ in range(3):
        found = f(x, y)[1]
    np.testing.assert_allclose(found, sum(cases.tapes(model, loss, x, y).values()), rtol=1e-4)
"""


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["0", "1"])
def test_norms_do_not_depend_on_onednn(setting):
    command = [sys.executable, "-c", SCRIPT, HERE / "no_batch_cases.py", *NAMES[:4]]
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": setting}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
