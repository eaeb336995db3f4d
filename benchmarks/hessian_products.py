"""Cost of a Hessian-vector product relative to a gradient, also for other libraries.

The network is the LeNet of chapter 11 (3,274,634 parameters) after an epoch of 32 steps; the data
are `--examples` digits in one batch. Every method has a separate process and the same weights,
digits and vector. They run alternately, one product per round, while the others sleep. The table
has the median time, the median of the ratios to the gradient in the same round (TensorFlow's,
compiled by `tf.function`), and v'Hv (v'g for gradients), which must be the same for all methods.

    kept            HessianOperator: for a fixed data set the gradient's values stay in memory
    memory_limit=0  the same, with everything computed again for each product
    accumulator     HessianOperator(mode="forward_accumulator")
    two tapes       HessianOperator(mode="reverse_over_reverse")
    Gauss-Newton    GaussNewtonOperator; another matrix, so its v'Hv is different
    torch           PyTorch's gradient
    curvlinops      its HessianLinearOperator, reverse over reverse mode
    pyhessian       products over a data loader, as for a data set of several batches
    pyhessian, 1    products over one batch, which keeps the graph of its gradient
    jax             jax.jvp of jax.grad, jitted
    jax gradient    jax.grad, jitted

Libraries that are not installed (benchmarks/requirements-peers.txt) are skipped.

    python -m benchmarks.hessian_products
    python -m benchmarks.hessian_products --ways gradient kept --examples 3000 --turns 9
"""

import argparse
import os
import statistics

import numpy as np

from benchmarks import turns


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--examples", type=int, default=1000, help="digits, in one batch")
    parser.add_argument("--turns", type=int, default=15)
    return parser.parse_args()


def lenet():
    import keras

    import models

    keras.utils.set_random_seed(0)
    model = models.build("lenet", (28, 28, 1), 10)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("rmsprop", loss)
    return model, loss


def problem(examples):
    """Returns trained weights, digits, labels and a vector by the weights' shapes, in NumPy."""
    import keras

    from thesis_tf import datasets

    keras.utils.set_random_seed(0)
    digits = datasets.load("mnist_mini").train
    x, y = (np.resize(a, (examples, *a.shape[1:])) for a in (digits.x, digits.y))
    x, y = x.astype(np.float32), y.astype(np.int64)
    model, _ = lenet()
    model.fit(x[:1000], y[:1000], batch_size=32, epochs=1, verbose=0)
    weights = model.get_weights()
    random = np.random.default_rng(1)
    vector = [random.standard_normal(w.shape).astype(np.float32) for w in weights]
    return weights, x, y, vector


def flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays])


def with_keras(weights):
    model, loss = lenet()
    model.set_weights(weights)
    return model, loss


def gradient(weights, x, y, vector):
    import tensorflow as tf

    model, loss = with_keras(weights)
    x, y = tf.constant(x), tf.constant(y)

    @tf.function(autograph=False)
    def run():
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=False))
        return tape.gradient(value, model.trainable_variables)

    return run, lambda grads: sum(float(np.vdot(g, v)) for g, v in zip(grads, vector, strict=True))


def operator(kind="HessianOperator", **settings):
    """Returns a function that creates products with an operator of this library."""

    def make(weights, x, y, vector):
        from thesis_tf import hessian

        model, loss = with_keras(weights)
        H = getattr(hessian, kind)(model, loss, (x, y), batch_size=len(x), check=False, **settings)
        v = flat(vector)
        return lambda: H @ v, lambda product: float(v @ product)

    return make


def with_torch(weights):
    """Returns the same network in PyTorch, and a function that converts Keras' arrays."""
    import torch
    from torch import nn

    class Pixels(nn.Module):
        def forward(self, x):
            return x / 255

    model = nn.Sequential(
        Pixels(),
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 1024),
        nn.ReLU(),
        nn.Linear(1024, 10),
    )

    def convert(array):
        if array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        elif array.shape[0] == 3136:  # Keras flattens (height, width, channels).
            array = array.reshape(7, 7, 64, -1).transpose(3, 2, 0, 1).reshape(-1, 3136)
        else:
            array = array.T
        return torch.tensor(np.ascontiguousarray(array))

    with torch.no_grad():
        for parameter, array in zip(model.parameters(), weights, strict=True):
            parameter.copy_(convert(array))
    return model, convert


def torch_gradient(weights, x, y, vector):
    import torch

    model, convert = with_torch(weights)
    x, y = torch.tensor(x.transpose(0, 3, 1, 2).copy()), torch.tensor(y)
    parameters, v = list(model.parameters()), [convert(a) for a in vector]

    def run():
        return torch.autograd.grad(torch.nn.functional.cross_entropy(model(x), y), parameters)

    return run, lambda grads: sum(float((g * a).sum()) for g, a in zip(grads, v, strict=True))


def curvlinops_product(weights, x, y, vector):
    import curvlinops
    import torch

    model, convert = with_torch(weights)
    data = [(torch.tensor(x.transpose(0, 3, 1, 2).copy()), torch.tensor(y))]
    H = curvlinops.HessianLinearOperator(
        model,
        torch.nn.CrossEntropyLoss(),
        list(model.parameters()),
        data,
        check_deterministic=False,
    )
    v = torch.cat([convert(a).flatten() for a in vector])
    return lambda: H @ v, lambda product: float(v @ product)


def pyhessian_product(one_batch):
    def make(weights, x, y, vector):
        import pyhessian
        import torch
        from pyhessian.utils import hessian_vector_product

        model, convert = with_torch(weights)
        batch = (torch.tensor(x.transpose(0, 3, 1, 2).copy()), torch.tensor(y))
        data = {"data": batch} if one_batch else {"dataloader": [batch]}
        H = pyhessian.hessian(model, torch.nn.CrossEntropyLoss(), cuda=False, **data)
        v = [convert(a) for a in vector]

        def run():
            if one_batch:
                return hessian_vector_product(H.gradsH, H.params, v)
            return H.dataloader_hv_product(v)[1]

        return run, lambda hv: sum(float((h * a).sum()) for h, a in zip(hv, v, strict=True))

    return make


def with_jax(differentiate):
    def make(weights, x, y, vector):
        import jax

        x, y = jax.numpy.asarray(x), jax.numpy.asarray(y)

        def loss(p, x, y):
            h = x / 255
            for kernel, bias in ((p[0], p[1]), (p[2], p[3])):
                h = jax.lax.conv_general_dilated(
                    h, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
                h = jax.nn.relu(h + bias)
                h = jax.lax.reduce_window(
                    h, -np.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
                )
            h = jax.nn.relu(h.reshape(len(x), -1) @ p[4] + p[5])
            logs = jax.nn.log_softmax(h @ p[6] + p[7])
            return -jax.numpy.mean(logs[jax.numpy.arange(len(y)), y])

        weights, vector = ([jax.numpy.asarray(a) for a in b] for b in (weights, vector))
        # Passed as arguments, since XLA would need a minute to fold them as constants.
        compiled = jax.jit(lambda w, v, *xy: differentiate(lambda p: loss(p, *xy), w, v))

        def inner(product):
            return sum(float((h * a).sum()) for h, a in zip(product, vector, strict=True))

        return lambda: jax.block_until_ready(compiled(weights, vector, x, y)), inner

    return make


def jax_product(loss, weights, vector):
    import jax

    return jax.jvp(jax.grad(loss), (weights,), (vector,))[1]


def jax_gradient(loss, weights, vector):
    import jax

    return jax.grad(loss)(weights)


WAYS = {
    "gradient": (gradient, None),
    "kept": (operator(memory_limit=1 << 40), None),
    "memory_limit=0": (operator(memory_limit=0), None),
    "accumulator": (operator(mode="forward_accumulator"), None),
    "two tapes": (operator(mode="reverse_over_reverse"), None),
    "Gauss-Newton": (operator("GaussNewtonOperator", memory_limit=1 << 40), None),
    "torch": (torch_gradient, "torch"),
    "curvlinops": (curvlinops_product, "curvlinops"),
    "pyhessian": (pyhessian_product(one_batch=False), "pyhessian"),
    "pyhessian, 1": (pyhessian_product(one_batch=True), "pyhessian"),
    "jax": (with_jax(jax_product), "jax"),
    "jax gradient": (with_jax(jax_gradient), "jax"),
}


def main():
    arguments = parse_arguments()
    shared = turns.apply(problem, arguments.examples)
    ways = ["gradient", *(w for w in arguments.ways if w != "gradient")]
    seconds, values = turns.take("benchmarks.hessian_products", ways, shared, arguments.turns)
    print(f"{arguments.examples} examples, {arguments.turns} turns, {os.cpu_count()} cores")
    print(f"{'':14}{'seconds':>9}{'gradients':>11}", f"{'vHv':>13}")
    for way, taken in seconds.items():
        ratios = [t / g for t, g in zip(taken, seconds["gradient"], strict=True)]
        median, ratio = statistics.median(taken), statistics.median(ratios)
        print(f"{way:14}{median:9.3f}{ratio:11.2f}{values[way]:14.6g}")


if __name__ == "__main__":
    main()
