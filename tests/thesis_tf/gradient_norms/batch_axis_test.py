import pytest
import tensorflow as tf

from thesis_tf.gradient_norms.batch_axis import BatchAxis

# name: (a function of inputs (batch, 6) and of a table (6, 6), rows are examples, constant)
TENSORS = {
    "a layer's output": (lambda x, table: x @ table, True, False),
    "a table": (lambda x, table: tf.tanh(table), False, True),
    "positions": (lambda x, table: tf.gather(table, tf.range(6)), False, True),
    "windows": (lambda x, table: tf.reshape(x, [-1, 3]), False, False),
    "products of examples": (lambda x, table: x @ tf.transpose(x), False, False),
    "steps first": (lambda x, table: tf.transpose(x), False, False),
    "a mean": (lambda x, table: tf.reduce_mean(x, 0), False, False),
    "as many rows": (lambda x, table: tf.zeros([tf.shape(x)[0], 2]), True, False),
}


@pytest.mark.parametrize("name", TENSORS)
def test_which_rows_are_examples(name):
    function, rows, constant = TENSORS[name]
    found = []

    def look(x, table):
        tensor = function(x, tf.identity(table))
        batch = BatchAxis(x)
        found.append((batch.holds_examples(tensor), batch.is_constant(tensor)))
        return tensor

    specs = tf.TensorSpec((None, 6)), tf.TensorSpec((6, 6))
    tf.function(look, autograph=False).get_concrete_function(*specs)
    assert found == [(rows, constant)]
