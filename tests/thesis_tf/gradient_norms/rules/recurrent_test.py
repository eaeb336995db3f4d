import keras
import pytest

L = keras.layers
SERIES = (4, 3)  # steps, values


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: L.SimpleRNN(2),
        lambda: L.SimpleRNN(2, use_bias=False, return_sequences=True, go_backwards=True),
        lambda: L.LSTM(2, return_sequences=True),
        lambda: L.LSTM(2, use_bias=False),
        lambda: L.RNN(L.LSTMCell(2, implementation=1)),
        lambda: L.GRU(2, return_sequences=True),
        lambda: L.GRU(2, reset_after=False),
        lambda: L.GRU(2, reset_after=False, use_bias=False),
        lambda: L.GRU(2, use_bias=False),
        lambda: L.RNN(L.GRUCell(2, implementation=1)),
        lambda: L.RNN([L.LSTMCell(3), L.GRUCell(2), L.SimpleRNNCell(2)]),
    ],
    ids=[
        "simple", "simple, backwards", "lstm", "lstm, no bias", "lstm, gate by gate", "gru",
        "gru, reset before", "gru, reset before, no bias", "gru, no bias", "gru, gate by gate",
        "stacked",
    ],
)  # fmt: skip
def test_gradients_are_those_of_jacobians(check_rule, make):
    check_rule(make, SERIES)


@pytest.mark.parametrize("make", [L.SimpleRNN, L.LSTM, L.GRU])
@pytest.mark.parametrize("option", ["dropout", "recurrent_dropout"])
def test_dropout_inside_a_cell_is_refused_in_training_mode(call_rule, make, option):
    with pytest.raises(ValueError, match="applies dropout inside the cell"):
        call_rule(lambda: make(2, **{option: 0.5}), SERIES, training=True)
