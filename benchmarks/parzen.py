"""Speed and accuracy of likelihood estimates: Parzen windows and conservative ones (chapter 5).

The data are 10,000 samples, 10,000 test and 10,000 validation points of 784 values in float32.
Methods run alternately in one process. The table has medians over the rounds of seconds, and of
ratios within a round to the matrix product of 10,000 x 784 x 10,000 in the same blocks.
scikit-learn's KernelDensity, with leaves that hold all samples since it is wrong with smaller
leaves, is timed on 100 test points, and its time is extrapolated. Errors are those of 200 random
test points relative to float64.

    python -m benchmarks.parzen                    # mnist_mini, drawn again with noise of .1
    python -m benchmarks.parzen --dataset mnist --data_dir FOLDER
"""

import argparse
import importlib.util
import os
import statistics
import time

import numpy as np
import scipy.spatial.distance
import scipy.special

PAUSE = 0.2  # seconds after which idle threads of the other method no longer spin
FEW, TIMED, CHECKED = 10, 100, 200  # points
SIGMAS = np.geomspace(0.05, 1, 20)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="mnist_mini", help="mnist_mini, mnist, ...")
    parser.add_argument("--data_dir", help="a folder with mnist.npz")
    parser.add_argument("--count", type=int, default=10_000, help="of samples, and of points")
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


def load(arguments):
    """Returns samples, test and validation points; real images are the samples."""
    from thesis_tf import datasets

    splits = datasets.load_inputs(arguments.dataset, data_dir=arguments.data_dir)
    rng = np.random.default_rng(0)

    def take(x):
        x = x.reshape(len(x), -1).astype(np.float32)
        if len(x) >= arguments.count:
            return x[: arguments.count]
        again = x[rng.integers(len(x), size=arguments.count)]
        return again + rng.normal(0, 0.1, again.shape).astype(np.float32)

    return take(splits.train.x), take(splits.test.x), take(splits.validation.x)


def turns(ways, rounds):
    """Returns {name: [seconds of each round]} of functions that take turns; one round warms up."""
    seconds = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, (run, times) in ways.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            run()
            if number:
                seconds[name].append(times * (time.perf_counter() - start))
    return seconds


def bare_product(samples, test, block=2000):
    import tensorflow as tf

    first, second = (
        [tf.constant(x[start : start + block]) for start in range(0, len(x), block)]
        for x in (samples, test)
    )

    def run():
        for points in second:
            for rows in first:
                product = tf.matmul(rows, points, transpose_b=True)
        return product.numpy()

    return run


def speed(samples, test, validation, rounds):
    from thesis_tf.gsn import reconstruction
    from thesis_tf.gsn.likelihood import conservative, parzen

    def window(samples=samples, test=test, validation=validation, sigmas=SIGMAS):
        return lambda: parzen.parzen_log_likelihood(samples, test, validation, sigmas=sigmas)

    chains = samples.reshape(-1, min(100, len(samples)), samples.shape[1])
    black, logits = (test > 0.5).astype(np.float32), 4 * samples - 2
    bernoulli = reconstruction.Bernoulli()
    ways = {
        "bare matrix product": (bare_product(samples, test), 1),
        "one sigma, all test points": (window(validation=validation[:FEW], sigmas=0.2), 1),
        "20 sigmas, all validation points": (window(test=test[:FEW]), 1),
        "20 sigmas, all validation and test points": (window(), 1),
        "the same of 100 chains": (window(chains), 1),
        "the grid by default, all points": (window(sigmas=None), 1),
        "conservative, Bernoulli, all test points": (
            lambda: conservative.conservative_log_likelihood(logits, black, bernoulli),
            1,
        ),
    }
    if importlib.util.find_spec("sklearn"):
        import sklearn.neighbors

        tree = sklearn.neighbors.KernelDensity(bandwidth=0.2, leaf_size=len(samples)).fit(samples)
        few = test[:TIMED]
        ways["scikit-learn, one sigma"] = (lambda: tree.score_samples(few), len(test) / len(few))
    seconds = turns(ways, rounds)
    first = next(iter(seconds.values()))
    print(f"{len(samples):,} samples, {len(test):,} points of {samples.shape[1]} values")
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, first, strict=True))
        print(f"  {name:44} {statistics.median(times):8.2f} s  {ratio:7.2f}x")


def accuracy(samples, test, validation):
    from thesis_tf.gsn.likelihood import parzen

    rng = np.random.default_rng(1)
    few = test[rng.choice(len(test), min(CHECKED, len(test)), replace=False)]
    squares = scipy.spatial.distance.cdist(few.astype(float), samples.astype(float), "sqeuclidean")
    constant = np.log(len(samples)) + samples.shape[1] * np.log(2 * np.pi) / 2
    print(f"Error in nats of {len(few)} points: the largest, and that of their mean")
    best = parzen.parzen_log_likelihood(samples, few, validation)
    for sigma in (0.05, 0.1, 0.2, 0.5, best.sigma):
        found = parzen.parzen_log_likelihood(
            samples, few, validation[:FEW], sigmas=sigma
        ).log_likelihoods
        log_p = scipy.special.logsumexp(-squares / (2 * sigma**2), axis=1) - constant
        error = found - (log_p - samples.shape[1] * np.log(sigma))
        print(f"  sigma {sigma:.4g}: {abs(error).max():.1e}, {abs(error.mean()):.1e}")
    print(f"  {best.protocol}: {best.log_likelihood:.1f} +- {best.standard_error:.1f}")


def main():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    arguments = parse_arguments()
    data = load(arguments)
    accuracy(*data)
    speed(*data, arguments.rounds)


if __name__ == "__main__":
    main()
