import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras.loss.arguments import LossArguments, logits_of

LOGITS = tf.constant([[3.0, -1.0], [0.5, 30.0]])


def probabilities():
    return keras.activations.softmax(tf.identity(LOGITS))


def cross_entropy(labels, outputs):
    return keras.losses.sparse_categorical_crossentropy(labels, outputs)


def squares(labels, outputs):
    return tf.reduce_sum(tf.square(outputs), 1)


@pytest.mark.parametrize(("loss", "through_logits"), [(cross_entropy, True), (squares, False)])
def test_a_loss_depends_on_logits_if_it_is_computed_from_them(loss, through_logits):
    labels = tf.constant([0, 1])
    expected = loss(labels, probabilities())

    @tf.function
    def found():
        arguments = LossArguments(loss, labels, probabilities())
        (tensor,) = arguments.tensors
        return tensor, loss(labels, arguments.outputs([tf.identity(tensor)]))

    tensor, again = found()
    wanted = LOGITS if through_logits else tf.nn.softmax(LOGITS)
    np.testing.assert_allclose(tensor, wanted, rtol=1e-6)
    np.testing.assert_allclose(again, expected, rtol=1e-6)


def test_masks_stay_on_outputs():
    @tf.function
    def found():
        outputs = tf.identity(LOGITS)
        outputs._keras_mask = tf.constant([True, False])
        arguments = LossArguments(squares, tf.constant([0, 1]), outputs)
        return arguments.outputs(arguments.tensors)._keras_mask

    np.testing.assert_array_equal(found(), [True, False])


def test_logits_are_those_of_the_operation_in_a_graph():
    @tf.function
    def found():
        assert logits_of(tf.identity(LOGITS)) is None
        return logits_of(tf.sigmoid(tf.identity(LOGITS)))

    np.testing.assert_array_equal(found(), LOGITS)
    assert logits_of(tf.sigmoid(LOGITS)) is None  # as Keras, which finds none eagerly
