"""Models whose layers and weights are applied to what has no row for each example."""

import keras
import numpy as np
import tensorflow as tf

L, ops = keras.layers, keras.ops
STEPS, UNITS, WORDS = 6, 8, 9


class Own(L.Layer):
    """A layer whose weights and layers are made by a function, and applied by another."""

    def __init__(self, make, apply, name="own"):
        super().__init__(name=name)
        self.parts = make(self)
        self.apply = apply

    def call(self, x):
        return self.apply(x, *self.parts)


def weight(layer, *shape):
    name = f"w{len(layer.weights)}"
    return layer.add_weight(shape=shape, initializer="normal", name=name)


def own(make, apply):
    """A model of series with such a layer in the middle."""
    return lambda: keras.Sequential(
        [
            keras.Input((STEPS, UNITS)),
            Own(make, apply),
            L.Activation("tanh"),
            L.Flatten(),
            L.Dense(3),
        ]
    )


def of_words(make, apply):
    return lambda: keras.Sequential(
        [
            keras.Input((STEPS,), dtype="int32"),
            Own(make, apply),
            L.Activation("tanh"),
            L.Flatten(),
            L.Dense(3),
        ]
    )


def positions():
    return ops.arange(STEPS)


def tokens(x, w):
    """A learnt token in front of each example's series."""
    return ops.concatenate(
        [ops.broadcast_to(ops.convert_to_tensor(w), (ops.shape(x)[0], 2, UNITS)), x], 1
    )


def windows(x):
    return ops.reshape(x, (-1, 3, UNITS))


def merged(x):
    return ops.reshape(x, (-1, STEPS, UNITS))


def windows_first(x):
    """Windows, those of one place in all examples behind one another."""
    x = ops.transpose(ops.reshape(x, (-1, 2, 3, UNITS)), (1, 0, 2, 3))
    return ops.reshape(x, (-1, 3, UNITS))


def windows_last(x):
    x = ops.transpose(ops.reshape(x, (2, -1, 3, UNITS)), (1, 0, 2, 3))
    return ops.reshape(x, (-1, STEPS, UNITS))


def swapped(x):
    return ops.transpose(x, (1, 0, 2))


def biased_windows(x, q, bias):
    """Attention in windows with a learnt bias of relative positions."""
    z = windows(q(x))
    scores = ops.matmul(z, ops.transpose(z, (0, 2, 1))) + bias
    return merged(ops.matmul(ops.softmax(scores), z))


def experts(x, gate, w):
    """Each step by each expert, weighted by a gate."""
    each = ops.einsum("btd,edf->btef", x, w)
    return ops.sum(each * ops.softmax(gate(x))[..., None], axis=2)


def routed(x, gate, first, second):
    """Each step by one of two experts, which see the steps of all examples in a row."""
    rows = ops.reshape(x, (-1, UNITS))
    scores = ops.softmax(gate(rows))
    chosen = ops.cast(scores[:, :1] > 0.5, x.dtype)
    rows = chosen * first(rows) * scores[:, :1] + (1 - chosen) * second(rows) * scores[:, 1:]
    return ops.reshape(rows, (-1, STEPS, UNITS))


def latents(x, w, query, key):
    """Attention of learnt latents, which have no batch axis of their own, to the series."""
    scores = ops.matmul(query(ops.convert_to_tensor(w)), ops.transpose(key(x), (0, 2, 1)))
    return ops.matmul(ops.softmax(scores), x)


def broadcast_latents(x, w, attention, norm):
    w = norm(ops.convert_to_tensor(w)[None])
    return attention(ops.broadcast_to(w, (ops.shape(x)[0], 3, UNITS)), x)


def masked_tokens(x, w):
    return ops.where(x[..., :1] > 0.5, ops.convert_to_tensor(w), x)


def looped(x, dense):
    """Each example by itself, in a loop."""
    return tf.map_fn(lambda row: dense(row[None])[0], x, fn_output_signature=x.dtype)


def in_a_function(x, dense, w):
    return tf.function(lambda x: dense(x) * w, autograph=False)(x)


def in_a_branch(x, dense, w):
    return tf.cond(tf.reduce_sum(w) > -9, lambda: dense(x) * w, lambda: x)


def recurrent(x, w, rnn):
    state = ops.broadcast_to(ops.convert_to_tensor(w), (ops.shape(x)[0], UNITS))
    return rnn(x, initial_state=state)


CASES = {
    "positions": own(
        lambda s: [L.Embedding(STEPS, UNITS)], lambda x, table: x + table(positions())
    ),
    "positions, with a batch axis": own(
        lambda s: [L.Embedding(STEPS, UNITS)], lambda x, table: x + table(positions()[None])
    ),
    "positions as factors": own(
        lambda s: [L.Embedding(STEPS, UNITS)], lambda x, table: x * table(positions())
    ),
    "positions, subtracted": own(
        lambda s: [weight(s, STEPS, UNITS)], lambda x, w: x - ops.convert_to_tensor(w)
    ),
    "positions from a longer table": own(
        lambda s: [weight(s, 3 * STEPS, UNITS)], lambda x, w: x + w[STEPS : 2 * STEPS]
    ),
    "positions through layers": own(
        lambda s: [L.Embedding(STEPS, 5), L.Dense(UNITS, "tanh"), L.LayerNormalization()],
        lambda x, table, dense, norm: x + norm(dense(table(positions()))),
    ),
    "positions by an index that is a variable": own(
        lambda s: [
            L.Embedding(STEPS, UNITS),
            s.add_weight(shape=(STEPS,), dtype="int32", initializer="ones", trainable=False),
        ],
        lambda x, table, index: x + table(index),
    ),
    "positions, divided": own(  # an operation in which no meeting is known
        lambda s: [L.Embedding(STEPS, UNITS)], lambda x, table: x / (2 + table(positions()))
    ),
    "words and positions": of_words(
        lambda s: [L.Embedding(WORDS, UNITS), L.Embedding(STEPS, UNITS)],
        lambda x, words, table: words(x) + table(positions()),
    ),
    "words from a table of one's own": of_words(
        lambda s: [weight(s, WORDS, UNITS)], lambda x, w: ops.take(w, x, axis=0)
    ),
    "one table for words and positions": of_words(
        lambda s: [L.Embedding(WORDS, UNITS)], lambda x, table: table(x) + table(positions())
    ),
    "tied table": of_words(
        lambda s: [L.Embedding(WORDS, UNITS), L.Dense(UNITS, "tanh")],
        lambda x, table, d: ops.matmul(d(table(x)), ops.transpose(table.embeddings)),
    ),
    "a learnt token": own(lambda s: [weight(s, 1, 2, UNITS)], tokens),
    "a learnt token in front of attention": own(
        lambda s: [weight(s, 1, 2, UNITS), L.Dense(UNITS), L.MultiHeadAttention(2, 4)],
        lambda x, w, dense, att: att(*[tokens(dense(x), w)] * 2),
    ),
    "a learnt token, repeated": own(
        lambda s: [weight(s, 1, 2, UNITS)],
        lambda x, w: ops.concatenate([tf.tile(w, [tf.shape(x)[0], 1, 1]), x], 1),
    ),
    "a learnt token, added to zeros": own(
        lambda s: [weight(s, UNITS)],
        lambda x, w: ops.concatenate([ops.zeros_like(x[:, :2]) + w, x], 1),
    ),
    "a learnt token through a layer": own(
        lambda s: [weight(s, 1, 2, UNITS), L.Dense(UNITS, "tanh")],
        lambda x, w, dense: tokens(x, dense(ops.convert_to_tensor(w))),
    ),
    "tokens for what is masked": own(lambda s: [weight(s, UNITS)], masked_tokens),
    "windows": own(lambda s: [L.Dense(UNITS)], lambda x, d: merged(d(windows(x)))),
    "windows, by place": own(
        lambda s: [L.Dense(UNITS)], lambda x, d: windows_last(d(windows_first(x)))
    ),
    "windows with a bias": own(lambda s: [L.Dense(UNITS), weight(s, 3, 3)], biased_windows),
    "windows with attention": own(
        lambda s: [L.MultiHeadAttention(2, 4)],
        lambda x, att: merged(att(windows(x), windows(x))),
    ),
    "windows and weights of one's own": own(
        lambda s: [weight(s, UNITS, UNITS)], lambda x, w: merged(ops.matmul(windows(x), w))
    ),
    "steps first": own(lambda s: [L.Dense(UNITS)], lambda x, d: swapped(d(swapped(x)))),
    "steps first, normalized": own(
        lambda s: [L.LayerNormalization()], lambda x, norm: swapped(norm(swapped(x)))
    ),
    "steps as examples": own(
        lambda s: [L.Dense(UNITS, "tanh")],
        lambda x, d: ops.reshape(d(ops.reshape(x, (-1, UNITS))), (-1, STEPS, UNITS)),
    ),
    "experts": own(lambda s: [L.Dense(3), weight(s, 3, UNITS, UNITS)], experts),
    "experts, routed": own(lambda s: [L.Dense(2), L.Dense(UNITS), L.Dense(UNITS)], routed),
    "attention from latents": own(lambda s: [weight(s, 3, UNITS), L.Dense(4), L.Dense(4)], latents),
    "attention from latents, broadcast": own(
        lambda s: [weight(s, 3, UNITS), L.MultiHeadAttention(2, 4), L.LayerNormalization()],
        broadcast_latents,
    ),
    "one layer on the batch and a table": own(
        lambda s: [L.Dense(UNITS, "tanh"), weight(s, STEPS, UNITS)],
        lambda x, d, w: d(x) + d(ops.convert_to_tensor(w)),
    ),
    "one layer along two axes": own(
        lambda s: [L.Dense(UNITS, "tanh")], lambda x, d: d(x) + swapped(d(swapped(x)))
    ),
    "a learnt image": own(
        lambda s: [weight(s, 1, STEPS, 3), L.Conv1D(UNITS, 3, padding="same")],
        lambda x, w, conv: x + conv(ops.convert_to_tensor(w)),
    ),
    "weights from a network": own(
        lambda s: [weight(s, UNITS, 5), L.Dense(UNITS, "tanh")],
        lambda x, w, d: tf.linalg.matmul(x, d(ops.convert_to_tensor(w))),
    ),
    "products of one's own": own(
        lambda s: [weight(s, UNITS, UNITS), weight(s, UNITS)],
        lambda x, w, b: tf.linalg.matmul(x, w, transpose_b=True) + b,
    ),
    "products of one's own, rank 4": own(
        lambda s: [weight(s, UNITS, UNITS)],
        lambda x, w: ops.reshape(
            tf.linalg.matmul(ops.reshape(x, (-1, 2, 3, UNITS)), ops.sin(w)), (-1, STEPS, UNITS)
        ),
    ),
    "a layer in a loop": own(lambda s: [L.Dense(UNITS, "tanh")], looped),
    "a layer in a function": own(
        lambda s: [L.Dense(UNITS, "tanh"), weight(s, UNITS)], in_a_function
    ),
    "a layer in a branch": own(lambda s: [L.Dense(UNITS, "tanh"), weight(s, UNITS)], in_a_branch),
    "a learnt first state": own(
        lambda s: [weight(s, UNITS), L.GRU(UNITS, return_sequences=True)], recurrent
    ),
}


def build(name):
    keras.utils.set_random_seed(0)
    model = CASES[name]()
    x, _ = data(model, 2)
    model(x)
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape) * 0.4)
    return model


def data(model, examples, seed=0):
    rng = np.random.default_rng(seed)
    words = model.inputs[0].dtype == "int32"
    x = rng.integers(0, WORDS, (examples, STEPS)) if words else rng.normal(
        size=(examples, STEPS, UNITS)
    )  # fmt: skip
    return x.astype("int32" if words else "f"), rng.integers(0, 3, examples)


def tapes(model, loss, x, y):
    """Returns each example's squared norms by a tape of its own: {variable's path: (examples,)}."""

    @tf.function(autograph=False, reduce_retracing=True)
    def squares(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, model(x))
        gradients = tape.gradient(value, model.trainable_variables)
        return [tf.reduce_sum(tf.square(tf.convert_to_tensor(g))) for g in gradients]

    rows = [squares(x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
    paths = [v.path for v in model.trainable_variables]
    return dict(zip(paths, np.array(rows).T, strict=True))
