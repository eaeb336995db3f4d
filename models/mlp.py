"""Multi-layer perceptrons, among them the 128 x 128 network of figure 9.6."""

import keras


def mlp(
    input_shape=(28, 28, 1),
    num_classes=10,
    *,
    units=(512, 512),
    activation="relu",
    name="mlp",
):
    """A multi-layer perceptron on flattened inputs in [0, 255], with activations of their own.

    Args:
        input_shape: the shape of one example.
        num_classes: the number of classes.
        units: the width of each hidden layer.
        activation: the name of a Keras activation.
        name: the model's name.

    Returns:
        A functional model from inputs (batch, *input_shape) to logits (batch, num_classes).
    """
    layers = keras.layers
    inputs = keras.Input(input_shape, name="image")
    x = layers.Flatten(name="flatten")(layers.Rescaling(1 / 255, name="pixels")(inputs))
    for index, width in enumerate(units, 1):
        x = layers.Dense(width, name=f"fc{index}")(x)
        x = layers.Activation(activation, name=f"fc{index}_{activation}")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=name)


def skip_mlp(
    input_shape=(28, 28, 1),
    num_classes=10,
    *,
    depth=128,
    width=128,
    skip=64,
    name="skip_mlp",
):
    """The pathologically deep network of figure 9.6: 128 layers of 128 units, one skip.

    Layer 1 is added to the output of layer `skip`, so that the upper half can be trained while
    nothing useful gets through the lower half.

    Args:
        input_shape: the shape of one example, with values in [0, 255].
        num_classes: the number of classes.
        depth: the number of hidden layers.
        width: units of each.
        skip: the layer whose output the skip connection joins; 0 for none.
        name: the model's name.

    Returns:
        A functional model from inputs (batch, *input_shape) to logits (batch, num_classes).
    """
    layers = keras.layers
    inputs = keras.Input(input_shape, name="image")
    x = layers.Flatten(name="flatten")(layers.Rescaling(1 / 255, name="pixels")(inputs))
    first = None
    for index in range(1, depth + 1):
        x = layers.Dense(width, name=f"fc{index:03d}")(x)
        x = layers.LeakyReLU(0.5, name=f"fc{index:03d}_relu")(x)
        first = x if first is None else first
        if index == skip:
            x = layers.Add(name="skip")([x, first])
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=name)
