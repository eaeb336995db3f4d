"""Costs and gains of taps and of bfloat16 in one forward pass of a ResNet-50 at 224 x 224.

Taps: the model's plain pass, model(x, training=False), is compared with passes that also return 17
taps (the 16 residual sums and the last ReLU), reduced by their means as in `probes.extract`, or
unreduced. All are `tf.function`s in one process and run alternately; the table shows the median
time and the median of the ratios to the plain pass of the same round.

Precision: the pass with reduced taps under mixed_bfloat16 is compared with float32 in the same way.
The table also has, for each tap, the relative error |bf16 - f32| / |f32| of its features over real
images (Frobenius norms), as they are and without the mean over the images, which probes ignore. A
single convolution in both dtypes shows what the processor gains or loses.

    python -m benchmarks.tapping --weights resnet50_imagenet.weights.h5 --images cifar10.npz

Without weights or images the error is not shown, since random ones would not be informative.
"""

import argparse
import os
import pathlib
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

import models
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.taps import forward, taps

TAPS = ["class:Add", "conv5_block3_out"]
ASSETS = pathlib.Path(os.environ.get("THESIS_ASSETS", "."))


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default=ASSETS / "resnet50_imagenet.weights.h5")
    parser.add_argument("--images", default=ASSETS / "cifar10.npz", help="an .npz with `x_test`")
    parser.add_argument("--examples", type=int, default=64, help="images for the error")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=15, help="turns of each pass")
    parser.add_argument("--part", choices=["taps", "precision", "both"], default="both")
    return parser.parse_args()


def build(weights, precision):
    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(0)
    weights = str(weights) if weights else "none"
    model = models.build("resnet50", (32, 32, 3), None, weights=weights)
    keras.config.set_dtype_policy("float32")
    return model


def passes(model):
    """Returns the plain pass, the pass with reduced taps and the pass with unreduced taps."""
    names = [tap.name for tap in taps(model, TAPS)]
    run, mean = forward(model, names), Reduction("mean")

    def reduced(x):
        outputs, values = run(x)
        return outputs, {name: mean(value, name) for name, value in values.items()}

    return {
        "plain": tf.function(lambda x: model(x, training=False), autograph=False),
        f"{len(names)} taps, means": tf.function(reduced, autograph=False),
        f"{len(names)} taps, raw": tf.function(run, autograph=False),
    }


def convolutions(batch_size):
    """Returns one of the network's 3 x 3 convolutions, in both dtypes."""
    run = tf.function(lambda x, kernel: tf.nn.conv2d(x, kernel, 1, "SAME"))
    values = [tf.random.normal(shape) for shape in ((batch_size, 14, 14, 256), (3, 3, 256, 256))]
    cast = {dtype: [tf.cast(value, dtype) for value in values] for dtype in ("float32", "bfloat16")}
    return {f"convolution, {dtype}": lambda v=v: run(*v) for dtype, v in cast.items()}


def take_turns(functions, turns):
    """Times each function once per round; the first round is not counted."""
    seconds = {name: [] for name in functions}
    for turn in range(turns + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            keras.tree.flatten(function())[0].numpy()  # all outputs are computed together
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def show(seconds, batch_size):
    baseline, *_ = seconds.values()
    print(f"{'':24}{'ms':>8}{'images/s':>10}{'time ratio':>12}")
    for name, values in seconds.items():
        median = statistics.median(values)
        ratio = statistics.median(v / b for v, b in zip(values, baseline, strict=True))
        print(f"{name:24}{1e3 * median:8.1f}{batch_size / median:10.1f}{ratio:12.3f}")
    print()


def features(run, images, batch_size):
    parts = [
        run(tf.constant(images[first : first + batch_size]))[1]
        for first in range(0, len(images), batch_size)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def show_errors(exact, rough):
    print(f"{'relative error of':24}{'means':>10}{'centered':>10}")
    rows = []
    for name, truth in exact.items():
        off = np.linalg.norm(rough[name] - truth)
        rows.append((off / np.linalg.norm(truth), off / np.linalg.norm(truth - truth.mean(0))))
        print(f"{name:24}{rows[-1][0]:10.4%}{rows[-1][1]:10.4%}")
    for label, row in (("largest", np.max(rows, 0)), ("mean", np.mean(rows, 0))):
        print(f"{label:24}{row[0]:10.4%}{row[1]:10.4%}")


def main():
    arguments = parse_arguments()
    weights, images = (pathlib.Path(p) for p in (arguments.weights, arguments.images))
    if not weights.exists():
        print(f"{weights} is not there: random weights, and no errors.\n")
        weights = None
    if images.exists():
        with np.load(images) as arrays:
            images = arrays["x_test"][: arguments.examples].astype(np.float32)
    else:
        print(f"{images} is not there: noise for images, and no errors.\n")
        images, weights = np.random.default_rng(0).uniform(0, 255, (64, 32, 32, 3)), None
        images = images.astype(np.float32)
    x = tf.constant(images[: arguments.batch_size])
    exact = passes(build(weights, "float32"))
    if arguments.part != "precision":
        turns = {name: (lambda f=f: f(x)) for name, f in exact.items()}
        show(take_turns(turns, arguments.pairs), arguments.batch_size)
    if arguments.part != "taps":
        tapped = list(exact)[1]
        rough = passes(build(weights, "mixed_bfloat16"))
        pair = {"float32": exact[tapped], "mixed_bfloat16": rough[tapped]}
        turns = {name: (lambda f=f: f(x)) for name, f in pair.items()}
        show(take_turns(turns, arguments.pairs), arguments.batch_size)
        show(take_turns(convolutions(arguments.batch_size), arguments.pairs), arguments.batch_size)
        if weights is not None:
            values = [features(f, images, arguments.batch_size) for f in pair.values()]
            show_errors(*values)


if __name__ == "__main__":
    main()
