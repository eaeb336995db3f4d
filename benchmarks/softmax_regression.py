"""Time to solve probes' softmax regressions, compared with scikit-learn's LogisticRegression.

Both get the same features, labels and l2. This library gets raw features and runs until its
suboptimality is at most `--tol`. scikit-learn gets standardized features and the loosest of several
tolerances with which its loss is within `--tol` of the minimum (known from a solution with a
hundredth of this tolerance). Both run alternately in one process. The table has medians over the
rounds of seconds, and of the ratio within a round.

Without `--store` the features are the outputs of a layer with random weights and ReLUs on the
bundled MNIST digits. `--classes 1000` uses random features of 1,000 classes with 4 examples each;
scikit-learn is then skipped, since it takes minutes, unless `--peer` is given.

    python -m benchmarks.softmax_regression
    python -m benchmarks.softmax_regression --store FOLDER --labels labels.npy --examples 5000
    python -m benchmarks.softmax_regression --classes 1000
"""

import argparse
import resource
import statistics
import time
import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression

from thesis_tf import datasets
from thesis_tf.probes import FeatureStore
from thesis_tf.probes.solver.softmax_regression import SoftmaxRegression
from thesis_tf.probes.solver.standardized import Standardized

SIZES = (64, 256, 512, 1024, 2048)
PAUSE = 0.2  # seconds after which idle threads of the other method no longer spin
TOLERANCES = 10.0 ** -np.arange(0, 6.25, 0.25)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", help="a folder with a feature store")
    parser.add_argument("--labels", help="a .npy file of labels, in the order of the store")
    parser.add_argument("--taps", nargs="*", help="taps of the store; all by default")
    parser.add_argument("--examples", type=int, default=5000, help="the first so many are used")
    parser.add_argument("--l2", type=float, default=1e-2)
    parser.add_argument("--tol", type=float, default=1e-3, help="suboptimality in nats")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--classes", type=int, help="random features of so many classes instead")
    parser.add_argument(
        "--peer",
        choices=["lbfgs", "newton-cg", "newton-cholesky", "saga", "none"],
        help="scikit-learn's solver; lbfgs by default",
    )
    return parser.parse_args()


def random_layers(examples):
    """Yields (name, features (N, D), labels): ReLUs of random projections of digits."""
    digits = datasets.load("mnist_mini").train
    x = np.asarray(digits.x[:examples], np.float32).reshape(len(digits.x[:examples]), -1) / 255
    for size in SIZES:
        rng = np.random.default_rng(size)
        weights = rng.standard_normal((x.shape[1], size), np.float32) / np.sqrt(x.shape[1])
        yield f"random {size}", np.maximum(x @ weights, 0), np.asarray(digits.y[:examples]).ravel()


def random_classes(classes):
    """Yields one problem of 4 examples per class, whose centers differ in some directions."""
    rng = np.random.default_rng(0)
    labels = np.arange(4 * classes) % classes
    x = rng.standard_normal((len(labels), 2048), np.float32)
    x[:, :256] += rng.standard_normal((classes, 256), np.float32)[labels]
    yield f"{classes} classes", x, labels


def stored(arguments):
    """Yields the taps of a store."""
    store = FeatureStore(arguments.store, verify=False)
    labels = np.load(arguments.labels, allow_pickle=False).ravel()[: arguments.examples]
    for tap in store.taps:
        if not arguments.taps or tap.name in arguments.taps:
            yield tap.name, store.read(tap.name, slice(0, arguments.examples)), labels


def ours(x, labels, l2, tol):
    features = Standardized(lambda: iter([(0, x)]))
    return SoftmaxRegression(features, labels, int(labels.max()) + 1).solve(l2, tol=tol)


def theirs(z, labels, l2, solver, tolerance):
    # Its loss is a sum over examples. For two classes it has one vector of weights instead of a
    # softmax's two, which have half its squared norm.
    scale = 2 if labels.max() == 1 else 1
    model = LogisticRegression(
        C=scale / (l2 * len(z)), solver=solver, tol=tolerance, max_iter=10_000
    )
    return model.fit(z, labels)


def loss(model, z, labels, l2):
    """Returns the loss that both minimize, in float64."""
    logits = z.astype(np.float64) @ model.coef_.T + model.intercept_
    square = (model.coef_**2).sum()
    if logits.shape[1] == 1:
        logits, square = np.hstack([-logits, logits]) / 2, square / 2
    top = logits.max(1)
    losses = np.log(np.exp(logits - top[:, None]).sum(1)) + top - logits[range(len(z)), labels]
    return losses.mean() + l2 / 2 * square


def loosest(z, labels, arguments, solver, least):
    """Returns the loosest tolerance with which scikit-learn is within --tol, and its error."""
    for tolerance in TOLERANCES:
        model = theirs(z, labels, arguments.l2, solver, tolerance)
        gap = loss(model, z, labels, arguments.l2) - least
        if gap <= arguments.tol:
            break
    return tolerance, gap


def timed(function, *args):
    time.sleep(PAUSE)
    start = time.perf_counter()
    result = function(*args)
    return result, time.perf_counter() - start


def main():
    warnings.simplefilter("ignore")  # scikit-learn's warnings on limits that are reached on purpose
    arguments = parse_arguments()
    if arguments.classes:
        problems, solver = random_classes(arguments.classes), arguments.peer or "none"
    else:
        problems = stored(arguments) if arguments.store else random_layers(arguments.examples)
        solver = arguments.peer or "lbfgs"
    print(f"l2 {arguments.l2:g}, tol {arguments.tol:g}, {arguments.rounds} rounds")
    print(
        f"{'':18}{'examples':>9}{'features':>9} |{'evals':>6}{'s':>8}{'certified':>10} |"
        f"{'iterations':>11}{'s':>8}{'true gap':>10}  {solver} | {'ratio':>6}"
    )
    total = [0.0, 0.0]
    for name, x, labels in problems:
        ours(x, labels, arguments.l2, arguments.tol)  # compiles once
        if solver != "none":
            z = ((x - x.mean(0)) / np.maximum(x.std(0), 1e-12)).astype(np.float32)
            best = ours(x, labels, arguments.l2, arguments.tol / 100)
            tolerance, gap = loosest(z, labels, arguments, solver, best.loss)
        seconds, peers = [], []
        for _ in range(arguments.rounds):
            solution, took = timed(ours, x, labels, arguments.l2, arguments.tol)
            seconds.append(took)
            if solver != "none":
                model, took = timed(theirs, z, labels, arguments.l2, solver, tolerance)
                peers.append(took)
        total[0] += statistics.median(seconds)
        row = f"{name:18}{len(x):9}{x.shape[1]:9} |{solution.evaluations:6}"
        row += f"{statistics.median(seconds):8.3f}{solution.suboptimality:10.1e} |"
        if peers:
            total[1] += statistics.median(peers)
            ratio = statistics.median(p / s for p, s in zip(peers, seconds, strict=True))
            row += f"{model.n_iter_.max():11}{statistics.median(peers):8.3f}{gap:10.1e}"
            row += f"  {'':{len(solver)}} | {ratio:6.1f}"
        print(row, flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"in all {total[0]:.2f} s and {total[1]:.2f} s; at most {peak:.1f} GiB of memory")


if __name__ == "__main__":
    main()
