"""Products and seconds to the 10 largest and 3 smallest eigenvalues of a loss' Hessian.

The network is the LeNet of chapter 11 before training and after `--steps` steps of RMSProp in
batches of 32; the Hessian is that of the mean loss over `--examples` training digits. One Lanczos
search for both ends is compared with two calls of SciPy's `eigsh`, one for each end, at the same
tolerance relative to the eigenvalues. The table has the number of products, seconds, the fraction
of them spent outside of products, the largest residual |Hv - lambda v| / |lambda|, and the
difference of the eigenvalues from those of `eigsh`. `warm` starts from the eigenvectors before
training.

    python -m benchmarks.hessian_eigenpairs --dataset mnist --data_dir FOLDER
    python -m benchmarks.hessian_eigenpairs --examples 500 --solvers lanczos
"""

import argparse
import time

import keras
import numpy as np

import models
from thesis_tf import datasets, hessian


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="mnist_mini", help="mnist_mini, mnist, ...")
    parser.add_argument("--data_dir", help="a folder with mnist.npz")
    parser.add_argument("--examples", type=int, default=3000, help="training examples")
    parser.add_argument("--steps", type=int, default=50, help="of training")
    parser.add_argument("--largest", type=int, default=10)
    parser.add_argument("--smallest", type=int, default=3)
    parser.add_argument("--tol", type=float, default=1e-3)
    parser.add_argument("--memory_limit", type=float, default=2, help="GiB of values kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--solvers", nargs="*", default=["lanczos", "warm", "eigsh"])
    return parser.parse_args()


class TimedOperator(hessian.HessianOperator):
    """A Hessian that adds up the seconds spent in its products."""

    seconds = 0.0

    def __matmul__(self, vectors):
        start = time.perf_counter()
        result = super().__matmul__(vectors)  # on a CPU it returns after the computation
        self.seconds += time.perf_counter() - start
        return result


def main():
    arguments = parse_arguments()
    keras.utils.set_random_seed(arguments.seed)
    train = datasets.load(arguments.dataset, data_dir=arguments.data_dir).train
    model = models.build("lenet", train.x.shape[1:], 10)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("rmsprop", loss)
    fraction = min(1.0, arguments.examples / len(train.y))
    subset = hessian.fixed_subset(train.x, train.y, fraction=fraction)
    H = TimedOperator(model, loss, subset, memory_limit=int(arguments.memory_limit * 2**30))
    print(f"{model.count_params():,} parameters, {len(subset[1]):,} examples")
    print(f"{'':20}{'products':>9}{'seconds':>9}{'outside':>9}{'residual':>10}{'apart':>10}")
    before = None
    for steps in (0, arguments.steps):
        if steps:
            model.fit(train.x[: 32 * steps], train.y[: 32 * steps], 32, shuffle=False, verbose=0)
            H.refresh()
        found = {}
        for name in arguments.solvers:
            if name == "warm" and before is None:
                continue
            H @ np.ones(H.shape[0], H.dtype)  # keeps the operator's values, and warms up
            H.seconds, start = 0.0, time.perf_counter()
            solver = "eigsh" if name == "eigsh" else "lanczos"
            pairs = hessian.extreme_eigenpairs(
                H,
                largest=arguments.largest,
                smallest=arguments.smallest,
                tol=arguments.tol,
                v0=before if name == "warm" else None,
                search=hessian.SearchOptions(solver=solver),
                seed=arguments.seed,
            )
            seconds = time.perf_counter() - start
            found[name] = pairs
            reference = found.get("lanczos", pairs).values
            apart = np.max(np.abs(pairs.values / reference - 1))
            residual = np.max(pairs.residuals / np.abs(pairs.values))
            print(
                f"{name + f', step {steps}':20}{pairs.products:9d}{seconds:9.1f}"
                f"{1 - H.seconds / seconds:9.1%}{residual:10.1e}{apart:10.1e}",
                flush=True,
            )
        before = next(iter(found.values())).vectors


if __name__ == "__main__":
    main()
