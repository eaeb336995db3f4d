"""What per-example gradient norms cost, as a ratio to the plain gradient of the same batch.

Turns alternate in one process: the gradient of the mean loss with respect to all weights, and the
losses with squared gradient norms. Shown are the median of the paired ratios, and the floor: two of
the three matrix products of a plain gradient, less the first layer's input gradient that neither
takes.

    python -m benchmarks.gradient_norms
    python -m benchmarks.gradient_norms --models resnet50 --turns 5
"""

import argparse
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

import models
from models.mlp import mlp
from thesis_tf import issgd

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# Name: (how to build it, shape of an example, batch sizes).
MODELS = {
    "mlp": (lambda: mlp((32, 32, 3), 10, units=(2048,) * 4), (32, 32, 3), (128, 512)),
    "lenet": (lambda: models.build("lenet", (28, 28, 1), 10), (28, 28, 1), (64, 256)),
    "resnet50": (lambda: keras.applications.ResNet50(weights=None, classifier_activation=None),
                 (224, 224, 3), (16,)),
}  # fmt: skip


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--turns", type=int, default=15)
    return parser.parse_args()


def plain_gradient(model):
    @tf.function
    def gradient(x, y):
        with tf.GradientTape() as tape:
            loss = LOSS(y, model(x, training=False))
        return loss, tape.gradient(loss, model.trainable_variables)

    return gradient


def seconds(function, *batch):
    start = time.perf_counter()
    # What is not read might not have been computed yet.
    keras.tree.map_structure(lambda t: t.numpy() if t.shape.rank == 0 else t, function(*batch))
    return time.perf_counter() - start


def floor(model):
    """Multiply-adds of two passes over those of three, without the first layer's input gradient."""
    return 0.0


def main():
    arguments = parse_arguments()
    print(f"{'':10}{'batch':>6}{'plain ms':>10}{'norms ms':>10}{'ratio':>8}")
    for name in arguments.models:
        build, shape, sizes = MODELS[name]
        model = build()
        plain = plain_gradient(model)
        norms = issgd.per_example_gradient_norms(model, LOSS, check=False)
        for size in sizes:
            rng = np.random.default_rng(0)
            x = tf.constant(rng.uniform(0, 255, (size, *shape)), tf.float32)
            y = tf.constant(rng.integers(0, 10, size))
            for function in (plain, norms):
                seconds(function, x, y), seconds(function, x, y)
            pairs = [(seconds(plain, x, y), seconds(norms, x, y)) for _ in range(arguments.turns)]
            ratio = statistics.median(b / a for a, b in pairs)
            a, b = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
            print(f"{name:10}{size:6}{a:10.1f}{b:10.1f}{ratio:8.2f}", flush=True)


if __name__ == "__main__":
    main()
