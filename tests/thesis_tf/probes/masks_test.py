"""Features of padded sequences against NumPy, with masks that are made by hand.

The number of steps is that of heads, channels, latents and rows, so that sizes tell nothing.
"""

import math
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from thesis_tf import probes
from thesis_tf.probes import reductions
from thesis_tf.probes.online import LiveProbes
from thesis_tf.probes.reductions import Reduction

T = 6
RNG = np.random.default_rng(0)
# Right padding, left padding, gaps, no padding, one step, nothing else.
LENGTHS = np.array(
    [
        [1, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 1],
        [1, 0, 0, 1, 1, 0],
        [1, 1, 1, 1, 1, 1],
        [1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
    ],
    bool,
)
OTHER = np.roll(LENGTHS, 2, axis=0)
ROWS = len(LENGTHS)
REDUCTIONS = ["mean", "last", "time_mean"]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def tokens(mask):
    return np.where(mask, RNG.integers(1, 20, mask.shape), 0).astype("int32")


def numpy_features(values, mask, reduction):
    """Reduces outputs (n, T, ...) in float64, one example after the other."""
    values = np.asarray(values, np.float64)
    if mask is None and reduction == "mean":
        return values.reshape(len(values), -1, values.shape[-1]).mean(1)
    mask = np.ones(values.shape[:2], bool) if mask is None else mask
    found = []
    for rows, steps in zip(values, mask, strict=True):
        kept = rows[steps] if steps.any() else np.zeros((1, *rows.shape[1:]))
        one = kept[-1] if reduction == "last" else kept.mean(0)
        while reduction == "mean" and one.ndim > 1:
            one = one.mean(0)
        found.append(one.ravel())
    return np.stack(found)


class Turned(layers.Layer):
    """Turns time, and keeps its mask as it is."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x):
        return tf.reverse(x, [1])


class TurnedWithMask(Turned):
    """Turns time, and its mask as well."""

    def compute_mask(self, inputs, previous_mask):
        return keras.ops.flip(previous_mask, 1)


class Integers(Turned):
    """Has a mask of integers, 2 where a step counts."""

    def call(self, x):
        return x * 2

    def compute_mask(self, inputs, previous_mask):
        return 2 * keras.ops.cast(previous_mask, "int32")


class Frames(Turned):
    """(batch, time, 6) to (batch, time, 2, 3)."""

    def call(self, x):
        return keras.ops.reshape(x, (-1, x.shape[1], 2, 3))


class Half(Turned):
    """Every other step, with the mask of all."""

    def call(self, x):
        return x[:, ::2]


class Mixed(Turned):
    """The sum of a sequence and of itself backwards."""

    def call(self, x):
        return x + tf.reverse(x, [1])


def keras_masks(_):
    """Returns a model, {tap: (symbolic output, mask)}, and the inputs."""
    m, n, back = LENGTHS, OTHER, LENGTHS[:, ::-1]
    ids = keras.Input((T,), dtype="int32", name="ids")
    others = keras.Input((T,), dtype="int32", name="others")
    frames = keras.Input((T, 3), name="frames")
    image = keras.Input((T, T, 3), name="image")
    e = layers.Embedding(20, T, mask_zero=True, name="emb")(ids)
    f = layers.Embedding(20, T, mask_zero=True, name="emb_2")(others)
    found = {"emb": (e, m), "emb_2": (f, n)}

    def add(layer, given, mask, name=None):
        out = layer(given)
        found[name or layer.name] = (out, mask)
        return out

    for kind in (layers.LSTM, layers.GRU, layers.SimpleRNN):
        name, options = kind.__name__.lower(), {"return_sequences": True}
        add(kind(3, name=name, **options), e, m)
        backwards = add(kind(3, go_backwards=True, name=f"{name}_back", **options), e, back)
        add(layers.Dense(2, name=f"{name}_dense"), backwards, back)
        add(layers.Bidirectional(kind(3, **options), name=f"bi_{name}"), e, m)
    twice = layers.LSTM(3, go_backwards=True, return_sequences=True, name="twice")
    add(twice, found["lstm_back"][0], m)
    add(
        layers.GRU(
            3, go_backwards=True, return_sequences=True, zero_output_for_mask=True, name="zeros"
        ),
        e,
        back,
    )
    add(
        layers.SimpleRNN(3, go_backwards=True, return_sequences=True, unroll=True, name="unrolled"),
        e,
        back,
    )
    cells = [layers.GRUCell(3), layers.SimpleRNNCell(2)]
    add(layers.RNN(cells, go_backwards=True, return_sequences=True, name="cells"), e, back)
    states = layers.LSTM(
        3, go_backwards=True, return_sequences=True, return_state=True, name="states"
    )
    found["states:0"] = (states(e)[0], back)
    first = layers.SimpleRNN(3, go_backwards=True, return_sequences=True)
    second = layers.SimpleRNN(3, return_sequences=True)
    add(layers.Bidirectional(first, backward_layer=second, name="bi_turned"), e, back)
    pair = layers.Bidirectional(layers.GRU(2, return_sequences=True), merge_mode=None, name="pair")
    for number, out in enumerate(pair(e)):
        found[f"pair:{number}"] = (out, m)
    on_top = layers.Bidirectional(
        layers.SimpleRNN(2, return_sequences=True), merge_mode="sum", name="on_top"
    )
    add(on_top, found["bi_lstm"][0], m)
    shared = layers.GRU(2, go_backwards=True, return_sequences=True, name="shared")
    # The call that more layers follow is the first to be executed.
    add(layers.Dense(2, name="behind_shared"), add(shared, e, back), back)
    add(shared, f, n[:, ::-1], "shared#2")
    inner = keras.Sequential(
        [
            keras.Input((T, T)),
            layers.Dense(4, name="up"),
            layers.GRU(3, go_backwards=True, return_sequences=True, name="rnn"),
        ],
        name="nested",
    )
    add(inner, e, back)
    add(layers.TimeDistributed(layers.Dense(3), name="each"), e, m)
    add(layers.Dropout(0.5, name="dropout"), found["lstm"][0], m)
    add(layers.Dense(3, dtype="mixed_bfloat16", name="bfloat16"), e, m)
    add(layers.Conv1D(4, 3, padding="same", name="conv"), e, None)
    add(layers.Add(name="residual"), [e, found["twice"][0] @ np.ones((3, T), "float32")], None)
    add(layers.Add(name="added"), [e, f], m | n)
    add(layers.Concatenate(axis=1, name="one_after_the_other"), [e, f], np.concatenate([m, n], 1))
    add(layers.Concatenate(name="side_by_side"), [e, f], m | n)
    add(Turned(name="turned"), e, back)
    add(TurnedWithMask(name="turned_with_mask"), e, back)
    add(Integers(name="integers"), e, m)
    add(Frames(name="two_by_three"), e, m)
    add(Half(name="half"), e, None)
    add(Mixed(name="mixed"), e, None)
    add(layers.Masking(name="masking"), frames, n)
    add(layers.Masking(name="masked_image"), image, None)
    # Attention takes the masks of its inputs away.
    for name, attention, call in (
        ("mha", layers.MultiHeadAttention(T, 2, name="mha"), {}),
        ("mha_dropout", layers.MultiHeadAttention(T, 2, dropout=0.1, name="mha_dropout"), {}),
        ("causal", layers.MultiHeadAttention(T, 2, name="causal"), {"use_causal_mask": True}),
        ("gqa", layers.GroupQueryAttention(2, T, 3, dropout=0.1, name="gqa"), {}),
    ):
        norm = add(layers.LayerNormalization(name=f"norm_{name}"), e, m)
        found[name] = (attention(norm, norm, **call), m)
        # The sum has no mask, since Keras' attention, but for the last kind, takes that of `norm`.
        kept = m if name == "gqa" else None
        add(layers.Add(name=f"sum_{name}"), [norm, found[name][0]], kept)
    with_scores = layers.MultiHeadAttention(T, 2, name="with_scores")
    query = add(layers.LayerNormalization(name="query"), f, n)
    value = add(layers.LayerNormalization(name="value"), e, m)
    attended, scores = with_scores(query, value, return_attention_scores=True)
    found["with_scores:0"], found["with_scores:1"] = (attended, n), (scores, None)
    add(layers.Softmax(name="softmax"), scores, None)
    outputs = {name.replace(":", "_").replace("#", "_"): out for name, (out, _) in found.items()}
    model = keras.Model({"ids": ids, "others": others, "frames": frames, "image": image}, outputs)
    inputs = {
        "ids": tokens(m),
        "others": tokens(n),
        "frames": np.where(n[..., None], RNG.normal(size=(ROWS, T, 3)), 0).astype("float32"),
        "image": np.where(m[..., None, None], RNG.normal(size=(ROWS, T, T, 3)), 0).astype("f4"),
    }
    return model, found, inputs


class Latents(layers.Layer):
    """As many latent vectors as there are steps, each of which looks at all steps."""

    def build(self, shape):
        self.latents = self.add_weight(shape=(1, T, shape[-1]), name="latents")

    def call(self, x):
        return self.latents * keras.ops.mean(x, 1, keepdims=True)


class Class(layers.Layer):
    """A learnt step in front."""

    def build(self, shape):
        self.first = self.add_weight(shape=(1, 1, shape[-1]), name="first")

    def call(self, x):
        return keras.ops.concatenate([keras.ops.repeat(self.first, len(LENGTHS), 0), x], 1)


class FromTheEnd(layers.Layer):
    def call(self, x):
        return x[:, ::-1]


def input_masks(steps):
    """Returns the same for a model whose padding is an input."""
    m, back = LENGTHS, LENGTHS[:, ::-1]
    ids = keras.Input((steps,), dtype="int32", name="token_ids")
    padding = keras.Input((steps,), dtype="int32", name="padding_mask")
    e = layers.Embedding(20, T, name="emb")(ids)
    own = layers.Embedding(20, T, mask_zero=True, name="own")(ids)
    found = {"emb": (e, m), "own": (own, OTHER)}

    def add(layer, given, mask, **options):
        found[layer.name] = (layer(given, **options), mask)
        return found[layer.name][0]

    add(layers.LSTM(3, return_sequences=True, name="lstm"), e, m)
    backwards = add(layers.GRU(3, go_backwards=True, return_sequences=True, name="back"), e, back)
    add(layers.Dense(3, name="behind"), backwards, back)
    add(layers.Bidirectional(layers.GRU(3, return_sequences=True), name="bi"), e, m)
    add(layers.GRU(3, go_backwards=True, return_sequences=True, name="twice"), backwards, m)
    add(layers.Add(name="both_ways"), [found["lstm"][0], backwards], None)
    add(FromTheEnd(name="from_the_end"), e, None)
    pair = keras.ops.expand_dims(padding, 1)
    attention = layers.MultiHeadAttention(T, 2, dropout=0.1, name="mha")
    found["mha"] = (attention(e, e, attention_mask=pair), m)
    add(layers.Add(name="sum"), [e, found["mha"][0]], m)
    add(layers.LayerNormalization(name="norm"), found["sum"][0], m)
    add(layers.Conv1D(4, 3, padding="same", name="conv"), e, m)
    if steps:
        add(layers.Permute((2, 1), name="permuted"), e, None)
        add(layers.Conv1D(4, 3, strides=2, padding="same", name="strided"), e, None)
    add(Latents(name="latents"), e, None)
    outputs = {name: out for name, (out, _) in found.items()}
    model = keras.Model({"token_ids": ids, "padding_mask": padding}, outputs)
    # A token of padding may be any, so that Keras' own mask is another one.
    inputs = {"token_ids": tokens(OTHER), "padding_mask": m.astype("int32")}
    return model, found, inputs


@pytest.fixture
def each(monkeypatch):
    """The reduction to the features of all reductions with masks: one pass for three tables."""

    def reduce(tensor, mask):
        found = [reductions.KINDS[kind].reduce(tensor, mask) for kind in REDUCTIONS]
        return tf.concat([tf.reshape(t, [-1, math.prod(t.shape[1:])]) for t in found], 1)

    def shape(sides):
        return (sides[-1] + 2 * math.prod(sides[1:]),)

    monkeypatch.setattr(reductions, "KINDS", dict(reductions.KINDS))
    reductions.register("each", shape=shape, reduce=reduce, least_rank=2)
    return Reduction("each")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("made", "steps", "also"),
    [
        (keras_masks, None, "export"),
        (input_masks, T, "live"),
        (input_masks, None, "export"),
    ],
    ids=["Keras' masks", "an input's mask", "an input's mask of any length"],
)
def test_stored_live_and_exported_features(made, steps, also, each, tmp_path):
    keras.utils.set_random_seed(0)
    model, found, inputs = made(steps)
    names = list(found)
    outputs = tf.function(model)(inputs)
    values = [outputs[name.replace(":", "_").replace("#", "_")] for name in names]
    expected = {
        name: np.concatenate(
            [numpy_features(tf.cast(value, "float32"), found[name][1], k) for k in REDUCTIONS], 1
        )
        for name, value in zip(names, values, strict=True)
    }
    store = probes.extract(
        model, inputs, tmp_path / "store", taps=names, reduction=each, batch_size=4
    )
    wrong = [n for n in names if not np.allclose(store.read(n), expected[n], **CLOSE)]
    assert not wrong
    if also == "live":
        probed = LiveProbes(model, names, each, num_classes=2)
        seen = probed._batch(inputs, tf.zeros(ROWS, tf.int32)).features
        others = dict(zip([tap.name for tap in probed.taps], seen, strict=True))
    else:
        report = probes.fit_probes(store, np.arange(ROWS) % 2, (5, 2), l2=[1.0], tol=1.0)
        report.save(tmp_path / "report")
        probes.export(model, probes.ProbeReport.load(tmp_path / "report"), tmp_path / "saved")
        served = tf.saved_model.load(str(tmp_path / "saved")).signatures["features"]
        others = served(**{key: tf.constant(value) for key, value in inputs.items()})
    for name in names:
        np.testing.assert_allclose(others[name], store.read(name), **CLOSE)


PADDING = [[1, 1, 0, 0], [1, 1, 1, 0]]


def padded(steps=None, **inputs):
    """Returns a small model of tokens with the inputs {name: dtype}, as in keras-hub."""
    ids = keras.Input((steps,), dtype="int32", name="token_ids")
    others = {name: keras.Input((steps,), dtype=kind, name=name) for name, kind in inputs.items()}
    x = layers.Embedding(9, 3, name="emb")(ids)
    x = layers.Dense(2, name="out")(layers.GlobalAveragePooling1D()(x))
    return keras.Model({"token_ids": ids, **others}, x)


def batch(**inputs):
    ids = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], "int32")
    return {"token_ids": ids, **{name: np.array(v, "int32") for name, v in inputs.items()}}


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions_by_name(reduction, tmp_path):
    model, x = padded(padding_mask="int32"), batch(padding_mask=PADDING)
    with pytest.warns(UserWarning, match="'padding_mask' is taken for the mask of steps at emb"):
        store = probes.extract(model, x, tmp_path, taps="emb", reduction=reduction)
    values = model.get_layer("emb")(x["token_ids"])
    expected = numpy_features(values, np.array(PADDING, bool), reduction)
    np.testing.assert_allclose(store.read("emb"), expected, **CLOSE)


@pytest.mark.parametrize("reduction", ["subset:5", "projection:5", "flatten"])
def test_other_reductions_take_all_steps(reduction, tmp_path):
    x, stores = batch(padding_mask=PADDING), []
    model = padded(4, padding_mask="int32")
    for mask in ("auto", "none"):
        store = probes.extract(model, x, tmp_path, taps="emb", reduction=reduction, mask=mask)
        stores.append(store.read("emb"))
    assert store.taps[0].mask == ""
    np.testing.assert_array_equal(*stores)


def mask_at(model, **options):
    return probes.taps(model, "emb", **options)[0].mask


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"padding_mask": "int32"}, "padding_mask"),
        ({"attention_mask": "bool"}, "attention_mask"),
        ({"mask": "int64"}, "mask"),
        ({"my_input_mask": "int32"}, "my_input_mask"),
        ({"my_input_mask": "int32", "segment_ids": "int32"}, ""),  # it may be the mask of either
        ({"segment_ids": "int32"}, ""),
        ({"loss_mask": "int32"}, ""),
        ({"padding_mask": "float32"}, ""),
    ],
)
def test_masks_among_the_inputs_are_found_by_name_and_kind(inputs, expected):
    assert mask_at(padded(**inputs)) == expected
    assert mask_at(padded(4, **inputs)) == expected
    name = next(iter(inputs))
    assert mask_at(padded(**inputs), mask=name) == name
    for none in (None, "none", "keras"):
        assert mask_at(padded(**inputs), mask=none) == ""


def test_each_mask_is_that_of_its_own_inputs():
    inputs, outputs = {}, []
    for side in ("encoder", "decoder"):
        ids = keras.Input((None,), dtype="int32", name=f"{side}_token_ids")
        mask = keras.Input((None,), dtype="int32", name=f"{side}_padding_mask")
        inputs |= {f"{side}_token_ids": ids, f"{side}_padding_mask": mask}
        outputs.append(layers.Embedding(9, 3, name=side)(ids))
    outputs.append(layers.Attention(name="cross")(outputs))
    model = keras.Model(inputs, outputs)

    found = {tap.name: tap.mask for tap in probes.taps(model)}

    assert found["encoder"] == found["cross"] == "encoder_padding_mask"
    assert found["decoder"] == "decoder_padding_mask"
    one = {tap.name: tap.mask for tap in probes.taps(model, mask="decoder_padding_mask")}
    assert (one["encoder"], one["decoder"]) == ("", "decoder_padding_mask")


@pytest.mark.parametrize(
    ("mask", "match"),
    [
        ("auto", "attention_mask and padding_mask both look like the mask"),
        ("paddin_mask", "`mask` must be the name of an input.*'paddin_mask'.*padding_mask"),
        ("padding_mask ", "`mask` must be the name of an input"),
    ],
)
def test_masks_that_are_refused(mask, match, tmp_path):
    model = padded(padding_mask="int32", attention_mask="int32")
    x = batch(padding_mask=PADDING, attention_mask=PADDING)
    with pytest.raises(ValueError, match=match):
        probes.extract(model, x, tmp_path, mask=mask)
    assert not list(tmp_path.iterdir())


def test_an_input_of_another_rank_is_no_mask():
    x = keras.Input((4, 3), name="vectors")
    with pytest.raises(ValueError, match=r"`mask` must be an input \(batch, time\).*vectors"):
        probes.taps(keras.Model(x, layers.Dense(2)(x)), mask="vectors")


@pytest.mark.filterwarnings("ignore:The input")
@pytest.mark.parametrize("values", [[[2, 1, 0, 0]] * 2, [[0, -(10**9), 0, 0]] * 2])
def test_masks_hold_0_and_1(values, tmp_path):
    with pytest.raises(ValueError, match="'padding_mask' must hold 1 for steps that count and 0"):
        probes.extract(padded(padding_mask="int32"), batch(padding_mask=values), tmp_path)


def warned(function):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", UserWarning)
        function()
    return " ".join(str(one.message) for one in found if one.category is UserWarning)


def test_what_is_guessed_or_left_out_is_said(tmp_path):
    guess = "'padding_mask' is taken for the mask of steps at emb: mask='padding_mask' says so"
    model, x = padded(padding_mask="int32"), batch(padding_mask=PADDING)
    said = warned(lambda: probes.extract(model, x, tmp_path / "a", taps="emb"))
    assert guess in said
    model.compile("sgd", "mse")
    monitor = probes.ProbeMonitor("emb", num_classes=2)
    assert guess in warned(
        lambda: model.fit(x, np.array([0, 1]), verbose=0, callbacks=[monitor]) and None
    )
    for number, mask in enumerate(["padding_mask", "keras", "none"]):
        folder = tmp_path / str(number)
        assert not warned(lambda: probes.extract(model, x, folder, taps="emb", mask=mask))  # noqa: B023
    # A reduction that takes all steps has nothing to say.
    subset = warned(lambda: probes.extract(model, x, tmp_path / "b", reduction="subset:5"))
    assert not subset
    floats = padded(padding_mask="float32")
    said = warned(lambda: probes.extract(floats, x, tmp_path / "c", taps="emb"))
    assert "The input 'padding_mask' isn't taken for a mask" in said
    assert "float32" in said
    empty = batch(padding_mask=[[0, 0, 0, 0], [1, 1, 1, 0]])
    said = warned(lambda: probes.extract(model, empty, tmp_path / "d", mask="padding_mask"))
    assert said == (
        "All steps of 1 examples are masked, the first of which is 0: their features at taps with"
        " a mask are 0."
    )


def test_where_keras_loses_masks_is_said(tmp_path):
    ids = keras.Input((4,), dtype="int32")
    e = layers.Embedding(9, 3, mask_zero=True, name="emb")(ids)
    a = layers.MultiHeadAttention(2, 2, dropout=0.1, name="mha")(e, e)
    model = keras.Model(ids, layers.Conv1D(2, 1, name="conv")(layers.Add(name="sum")([e, a])))
    x = np.array([[1, 2, 0, 0]], "int32")

    said = warned(lambda: probes.extract(model, x, tmp_path / "a"))
    assert "aren't (batch, time) of their output are left out at mha/softmax" in said
    assert "Masked steps count, since Keras doesn't pass the mask on, at" in said
    said = warned(lambda: probes.extract(model, x, tmp_path / "b", taps=["sum", "conv", "emb"]))
    assert said == "Masked steps count, since Keras doesn't pass the mask on, at sum, conv."


@pytest.mark.filterwarnings("ignore:The input")
def test_another_mask_is_another_store(tmp_path):
    model, x = padded(padding_mask="int32"), batch(padding_mask=PADDING)
    probes.extract(model, x, tmp_path, taps="emb", mask="padding_mask")
    same = probes.extract(model, x, tmp_path, taps="emb", mask="auto")
    assert [tap.mask for tap in same.taps] == ["padding_mask"]
    with pytest.raises(ValueError, match="holds features of another mask"):
        probes.extract(model, x, tmp_path, taps="emb", mask="none")


def test_batches_of_different_lengths(tmp_path):
    model = padded(padding_mask="int32")
    rows = [[1, 2], [3, 4, 5], [6], [7, 8, 1, 2, 3], [4, 5]]
    dataset = tf.data.Dataset.from_generator(
        lambda: ({"token_ids": row, "padding_mask": np.ones_like(row)} for row in rows),
        output_signature={
            "token_ids": tf.TensorSpec((None,), "int32"),
            "padding_mask": tf.TensorSpec((None,), "int32"),
        },
    ).padded_batch(2)

    store = probes.extract(model, dataset, tmp_path, taps="emb", batch_size=2, mask="padding_mask")

    table = model.get_layer("emb").embeddings.numpy().astype(np.float64)
    expected = [table[row].mean(0) for row in rows]
    np.testing.assert_allclose(store.read("emb"), expected, **CLOSE)


@pytest.mark.parametrize("steps", [None, 3])
def test_a_mask_of_another_number_of_steps_is_left_out(steps, tmp_path):
    class Doubled(Turned):
        def call(self, x):
            return keras.ops.concatenate([x, x], 1)

    ids = keras.Input((steps,), dtype="int32")
    e = layers.Embedding(9, 3, mask_zero=True)(ids)
    doubled = Doubled(name="doubled")(e)
    model = keras.Model(ids, layers.Dense(2)(layers.GlobalMaxPooling1D()(doubled)))
    x = np.array([[1, 2, 0]], "int32")
    live = []
    said = warned(
        lambda: live.append(LiveProbes(model, "doubled", Reduction("mean"), num_classes=2))
    )
    assert "Masks that aren't (batch, time) of their output are left out at doubled." in said
    expected = np.asarray(model.layers[1](x), "float64").mean(1)
    np.testing.assert_allclose(live[0]._batch(x, tf.zeros(len(x))).features[0], expected, **CLOSE)
    store = probes.extract(model, x, tmp_path, taps="doubled")
    np.testing.assert_allclose(store.read("doubled"), expected, **CLOSE)


class Unshaped(layers.Layer):
    """Has outputs whose number of steps can't be seen."""

    def call(self, x):
        return tf.reshape(x, [tf.shape(x)[0], -1, x.shape[-1]])


def test_what_cannot_be_told_is_left_out_and_said(tmp_path):
    keras.utils.set_random_seed(0)
    model, _, inputs = input_masks(T)
    x = keras.Input((T,), dtype="int32", name="token_ids")
    padding = keras.Input((T,), dtype="int32", name="padding_mask")
    e = layers.Embedding(20, T)(x)
    outputs = [Unshaped(name="unshaped")(e), Latents(name="latents")(e), Mixed(name="mixed")(e)]
    model = keras.Model({"token_ids": x, "padding_mask": padding}, outputs)

    said = warned(
        lambda: probes.extract(
            model, inputs, tmp_path, taps=["unshaped", "latents", "mixed"], mask="padding_mask"
        )
    )

    text, _, names = said.rpartition(" at ")
    assert text == "Masks are left out, as it can't be told which steps they mean,"
    assert set(names.strip(".").split(", ")) == {"unshaped", "latents", "mixed"}


def test_every_replica_has_its_part_of_the_mask(tmp_path):
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = padded(padding_mask="int32")
        x = {key: np.tile(value, (3, 1)) for key, value in batch(padding_mask=PADDING).items()}
        x["padding_mask"][3] = 1
        store = probes.extract(model, x, tmp_path, taps="emb", batch_size=4, mask="padding_mask")
    expected = numpy_features(
        model.get_layer("emb")(x["token_ids"]), x["padding_mask"].astype(bool), "mean"
    )
    np.testing.assert_allclose(store.read("emb"), expected, **CLOSE)


def test_masks_of_lists_and_of_subclassed_models(tmp_path):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.emb, self.out = layers.Embedding(9, 3, name="emb"), layers.Dense(2)

        def call(self, x):
            weights = keras.ops.cast(x["padding_mask"], "float32")[..., None]
            return self.out(keras.ops.sum(self.emb(x["token_ids"]) * weights, 1))

    x = {key: np.tile(value, (2, 1)) for key, value in batch(padding_mask=PADDING).items()}
    mask, y = x["padding_mask"].astype(bool), np.array([0, 1, 0, 1])
    one = padded(padding_mask="int32")
    listed = keras.Model([one.input["token_ids"], one.input["padding_mask"]], one.output)
    listed.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for number, (model, inputs) in enumerate([(Subclassed(), x), (listed, list(x.values()))]):
        folder = tmp_path / str(number)
        store = probes.extract(model, inputs, folder / "s", taps="emb", mask="padding_mask")
        expected = numpy_features(model.get_layer("emb")(x["token_ids"]), mask, "mean")
        np.testing.assert_allclose(store.read("emb"), expected, **CLOSE)
        report = probes.fit_probes(store, y, (2, 2), l2=[1.0], tol=1.0)
        probes.export(model, report, folder / "e", inputs=inputs)
        served = tf.saved_model.load(str(folder / "e")).signatures["features"]
        names = sorted(served.structured_input_signature[1])
        values = [x.get(n, v) for n, v in zip(names, x.values(), strict=True)]
        found = served(**{n: tf.constant(v, "int32") for n, v in zip(names, values, strict=True)})
        np.testing.assert_allclose(found["emb"], expected, **CLOSE)
    for inputs in (x, list(x.values())):
        monitor = probes.ProbeMonitor("emb", num_classes=2, mask="padding_mask")
        listed.fit(inputs, y, verbose=0, callbacks=[monitor])
        assert monitor.report().probes[0].tap.mask == "padding_mask"
        assert "padding_mask" in monitor.report().table()
