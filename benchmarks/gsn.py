"""Cost of a training step of a generative stochastic network relative to its matrix products.

The methods are run alternately in one process. The table has medians over rounds of milliseconds,
and of the fraction of the step that the matrix products take in the same round. The products are
those that a step needs, forward and backward, on separate operands. The rest of a step is noise
(Philox), Adam, sums of the gradients of each round, and elementwise operations.

    step           `train_step` of the model, with Adam
    no noise       the same without corruption and hidden noise
    products       only the matrix products

    python -m benchmarks.gsn
    python -m benchmarks.gsn --batch_sizes 100 500 --precision mixed_bfloat16
"""

import argparse
import os
import statistics
import time

PAUSE = 0.1  # seconds after which idle threads of the other method no longer spin
ROUNDS = 4  # of walkback
NETWORKS = {"gsn": (784, 1000, 1000), "gsn_wide": (784, 3000, 3000), "dae": (784, 2000)}


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch_sizes", nargs="*", type=int, default=[100])
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--turns", type=int, default=21)
    return parser.parse_args()


def training_step(name, batch, noisy):
    """Returns a compiled training step of a network."""
    import keras
    import tensorflow as tf

    from models.gsn import walkback_dae
    from thesis_tf.corruption import SaltAndPepper
    from thesis_tf.gsn import GSN

    size, *layers = NETWORKS[name]
    options = {"corruption": SaltAndPepper(0.4) if noisy else None, "walkback": ROUNDS}
    if name == "dae":
        model = walkback_dae((size,), units=layers[0], **options)
    else:
        model = GSN(layers, noise=2.0 if noisy else 0.0, **options)
    model.compile(keras.optimizers.Adam(1e-3))
    model.build((None, size))
    model.optimizer.build(model.trainable_variables)
    x = tf.Variable(tf.round(tf.random.uniform((batch, size))))
    return tf.function(lambda: model.train_step(x)["loss"], autograph=False)


def products(name, batch):
    """Returns (function, FLOPs) of the products of a step, each with separate operands."""
    import keras
    import tensorflow as tf

    size, *layers = NETWORKS[name]
    dtype = keras.config.dtype_policy().compute_dtype
    made = {}

    def variable(role, *shape):
        # Each round has the same kernel and other activations.
        key = (role, *shape)
        if key not in made:
            made[key] = tf.Variable(tf.cast(tf.random.normal(shape), dtype))
        return made[key]

    calls = []
    for number in range(ROUNDS):
        pairs = [(size, layers[0], "up"), (layers[0], size, "down")]
        if len(layers) == 2:
            # The first round has no h2 yet, and the last h2 is not used.
            pairs += [(layers[1], layers[0], "down")] * (number > 0)
            pairs += [(layers[0], layers[1], "up")] * (number < ROUNDS - 1)
        for index, (below, above, way) in enumerate(pairs):
            x, delta = (variable((number, index), batch, n) for n in (below, above))
            kernel = variable(way if name == "dae" else "tied", *sorted((below, above)))
            turned = below > above or (below == above and way == "down")
            calls.append((x, kernel, {"transpose_b": turned}))
            calls.append((x, delta, {"transpose_a": True}))
            if index:  # x itself is a constant
                calls.append((delta, kernel, {"transpose_b": not turned}))

    def run():
        return [tf.matmul(a, b, **options)[0, 0] for a, b, options in calls]

    flops = sum(
        2 * batch * int(b.shape[0]) * int(b.shape[1]) for _, b, o in calls if "transpose_b" in o
    ) + sum(
        2 * batch * int(a.shape[1]) * int(b.shape[1]) for a, b, o in calls if "transpose_a" in o
    )
    return tf.function(run, autograph=False), flops


def main():
    arguments = parse_arguments()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    keras.config.set_dtype_policy(arguments.precision)
    print(
        f"{'network':10}{'batch':>6}  {'step':>9}{'no noise':>10}{'products':>10}  GFLOP/s  share"
    )
    for name in arguments.networks:
        for batch in arguments.batch_sizes:
            bare, flops = products(name, batch)
            ways = {
                "step": training_step(name, batch, True),
                "no noise": training_step(name, batch, False),
                "products": bare,
            }
            seconds = {way: [] for way in ways}
            for turn in range(arguments.turns + 2):
                for way, function in ways.items():
                    time.sleep(PAUSE)
                    function()  # wakes the threads
                    start = time.perf_counter()
                    for _ in range(3):
                        result = function()
                    float(result[0] if way == "products" else result)
                    if turn > 1:
                        seconds[way].append((time.perf_counter() - start) / 3)
            times = "".join(f"{1e3 * statistics.median(t):8.1f} ms" for t in seconds.values())
            share = statistics.median(
                b / s for b, s in zip(seconds["products"], seconds["step"], strict=True)
            )
            rate = flops / statistics.median(seconds["products"]) / 1e9
            print(f"{name:10}{batch:6}{times}{rate:9.0f}{share:7.2f}")


if __name__ == "__main__":
    main()
