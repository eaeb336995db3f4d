"""Time of per-example gradient norms relative to ordinary gradients, also for other libraries.

Every method runs in a separate process, with the same parameters and examples; one runs at a time
while the others sleep. The table has the median time, the median of the ratios to the gradient in
the same round (TensorFlow's gradient of the mean loss with respect to all parameters, compiled by
`tf.function`), and the sum of squared norms, which must be the same for all methods.

    norms           per_example_gradient_norms: losses and squared norms
    both            GradientNorms.with_gradients: these and the scaled gradient, as a peer needs
    torch           PyTorch's gradient
    opacus          its ghost norms, which come with the gradient
    backpack        BatchL2Grad, which comes with the gradient
    jax, jax_norms  JAX's gradient, and norms of vmap(grad), which forms each example's gradient

The lower bound is the time of two of an ordinary gradient's three passes of matrix products: 0.63
for the MLP, 0.67 for the others. Libraries that are not installed
(benchmarks/requirements-peers.txt) are skipped. They don't support ResNet-50's batch normalization,
and vmap(grad) of the MLP needs too much memory (9.7 GB for the gradients of 128 examples).

    python -m benchmarks.gradient_norms
    python -m benchmarks.gradient_norms --models lenet --turns 31
"""

import argparse
import statistics

import numpy as np

from benchmarks import turns

# {name: batch sizes}.
MODELS = {"mlp": (128, 512), "lenet": (64, 256), "resnet50": (16,)}


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--turns", type=int, default=15)
    return parser.parse_args()


def build(name):
    import keras

    import models

    keras.utils.set_random_seed(0)
    if name == "resnet50":
        return keras.applications.ResNet50(weights=None, classifier_activation=None, classes=10)
    shapes = {"mlp": ("issgd_mlp", (32, 32, 3)), "lenet": ("lenet", (28, 28, 1))}
    return models.build(*shapes[name], 10)


def problem(name, examples):
    """Returns (the network's name, weights, images, labels), in NumPy."""
    model = build(name)
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 255, (examples, *model.input_shape[1:])).astype(np.float32)
    return name, model.get_weights(), x, rng.integers(0, 10, examples)


def in_keras(make):
    """Returns a method from a model, a loss and tensors."""

    def way(name, weights, x, y):
        import keras
        import tensorflow as tf

        model = build(name)
        model.set_weights(weights)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return make(model, loss, tf.constant(x), tf.constant(y))

    return way


def gradient(model, loss, x, y):
    import tensorflow as tf

    @tf.function
    def compute(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=False))
        return tape.gradient(value, model.trainable_variables)

    return lambda: [g.numpy().ravel()[:1] for g in compute(x, y)], lambda _: float("nan")


def norms(model, loss, x, y):
    from thesis_tf import gradient_norms

    f = gradient_norms.per_example_gradient_norms(model, loss, check=False)
    return lambda: f(x, y)[1].numpy(), lambda squares: float(squares.sum())


def both(model, loss, x, y):
    import tensorflow as tf

    from thesis_tf import gradient_norms

    f, scales = gradient_norms.per_example_gradient_norms(model, loss), tf.ones(len(y))

    def run():
        _, squares, gradients = f.with_gradients(x, y, scales)
        return squares.numpy(), [g.numpy().ravel()[:1] for g in gradients]

    return run, lambda result: float(result[0].sum())


def in_torch(make):
    """Returns a method from the same network in PyTorch and tensors."""

    def way(name, weights, x, y):
        import torch
        from torch import nn

        if name == "lenet":
            layers = [
                nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
                nn.Flatten(), nn.Linear(3136, 1024), nn.ReLU(), nn.Linear(1024, 10),
            ]  # fmt: skip
            x = x.transpose(0, 3, 1, 2)
            # PyTorch flattens channels first.
            weights[4] = weights[4].reshape(7, 7, 64, -1).transpose(2, 0, 1, 3).reshape(3136, -1)
        else:
            sizes = [w.shape for w in weights[::2]]
            layers = [nn.Flatten()]
            for rows, columns in sizes:
                layers += [nn.Linear(rows, columns), nn.ReLU()]
            layers.pop()
        model = nn.Sequential(*layers)
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            order = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[weight.ndim]
            parameter.data = torch.tensor(np.ascontiguousarray(weight.transpose(order)))
        x = torch.tensor(np.ascontiguousarray(x / np.float32(255)))
        return make(model, x, torch.tensor(y))

    return way


def torch_gradient(model, x, y):
    from torch import nn

    loss = nn.CrossEntropyLoss()

    def run():
        model.zero_grad()
        loss(model(x), y).backward()

    return run, lambda _: float("nan")


def opacus_norms(model, x, y):
    from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
        GradSampleModuleFastGradientClipping,
    )
    from torch import nn

    ghost = GradSampleModuleFastGradientClipping(model, max_grad_norm=1.0, use_ghost_clipping=True)
    loss = nn.CrossEntropyLoss()

    def run():
        ghost.zero_grad()
        loss(ghost(x), y).backward()
        return ghost.get_norm_sample().numpy() ** 2

    return run, lambda squares: float(squares.sum())


def backpack_norms(model, x, y):
    from backpack import backpack, extend
    from backpack.extensions import BatchL2Grad
    from torch import nn

    model, loss = extend(model), extend(nn.CrossEntropyLoss())

    def run():
        model.zero_grad()
        with backpack(BatchL2Grad()):
            loss(model(x), y).backward()
        # BackPACK takes the mean loss, and returns norms of its terms.
        squares = sum(parameter.batch_l2 for parameter in model.parameters())
        return squares.numpy() * len(y) ** 2

    return run, lambda squares: float(squares.sum())


def in_jax(make):
    """Returns a method from the same network in JAX: its loss of one example, and arrays."""

    def way(name, weights, x, y):
        import jax

        pairs = list(zip(weights[::2], weights[1::2], strict=True))

        def one_loss(parameters, x, y):
            h = x[None] / 255
            for number, (kernel, bias) in enumerate(parameters):
                if kernel.ndim == 4:
                    h = jax.lax.conv_general_dilated(
                        h, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
                    )
                    h = jax.nn.relu(h + bias)
                    window = (1, 2, 2, 1)
                    h = jax.lax.reduce_window(h, -np.inf, jax.lax.max, window, window, "VALID")
                    continue
                h = h.reshape(1, -1) @ kernel + bias
                if number < len(parameters) - 1:
                    h = jax.nn.relu(h)
            return -jax.nn.log_softmax(h[0])[y]

        return make(jax, one_loss, jax.device_put(pairs), jax.device_put(x), jax.device_put(y))

    return way


def jax_gradient(jax, one_loss, parameters, x, y):
    losses = jax.vmap(one_loss, (None, 0, 0))
    compute = jax.jit(jax.grad(lambda p, x, y: losses(p, x, y).mean()))
    return lambda: jax.block_until_ready(compute(parameters, x, y)), lambda _: float("nan")


def jax_norms(jax, one_loss, parameters, x, y):
    def square(x, y):
        gradients = jax.tree.leaves(jax.grad(one_loss)(parameters, x, y))
        return sum((g**2).sum() for g in gradients)

    compute = jax.jit(jax.vmap(square))
    return lambda: np.asarray(compute(x, y)), lambda squares: float(squares.sum())


WAYS = {
    "gradient": (in_keras(gradient), None),
    "norms": (in_keras(norms), None),
    "both": (in_keras(both), None),
    "torch": (in_torch(torch_gradient), "torch"),
    "opacus": (in_torch(opacus_norms), "opacus"),
    "backpack": (in_torch(backpack_norms), "backpack"),
    "jax": (in_jax(jax_gradient), "jax"),
    "jax_norms": (in_jax(jax_norms), "jax"),
}

BEYOND = {
    "resnet50": ("torch", "opacus", "backpack", "jax", "jax_norms"),
    "mlp": ("jax_norms",),
}


def main():
    arguments = parse_arguments()
    ways = ["gradient", *(w for w in arguments.ways if w != "gradient")]
    for name in arguments.models:
        for examples in MODELS[name]:
            shared = turns.apply(problem, name, examples)
            chosen = [way for way in ways if way not in BEYOND.get(name, ())]
            seconds, values = turns.take(
                "benchmarks.gradient_norms", chosen, shared, arguments.turns
            )
            print(f"\n{name}, {examples} examples, {arguments.turns} turns")
            print(f"{'':10}{'ms':>9}{'gradients':>11}{'squared norms':>16}")
            for way, taken in seconds.items():
                pairs = zip(taken, seconds["gradient"], strict=True)
                ratio = statistics.median(t / g for t, g in pairs)
                median = 1e3 * statistics.median(taken)
                print(f"{way:10}{median:9.1f}{ratio:11.2f}{values[way]:16.6g}", flush=True)


if __name__ == "__main__":
    main()
