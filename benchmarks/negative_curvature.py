"""Compares NegativeCurvature with the optimizers that it wraps, at equal steps and at equal time.

Trains the network from the same weights on the same batches of 32 with RMSProp and Adam, alone and
wrapped, with and without steps along the curvature. Wrapped optimizers run for `--steps`, then the
base optimizers for the same time. The table has, as means over `--seeds` with standard errors, the
loss on 2,000 training examples and the error on the test examples; the time of a step relative to
the base optimizer; the number of steps along v; and, halfway and at the end, v'Hv on the 2,000
examples with the smallest eigenvalue by Lanczos.

    python -m benchmarks.negative_curvature
    python -m benchmarks.negative_curvature --learning_rate 1e-4
    python -m benchmarks.negative_curvature --model lenet --steps 400
"""

import argparse
import time

import keras
import numpy as np

import models
from thesis_tf import datasets, hessian

BATCH, CHUNK = 32, 25
BASES = {"rmsprop": keras.optimizers.RMSprop, "adam": keras.optimizers.Adam}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="mnist_mini", help="mnist_mini, mnist, ...")
    parser.add_argument("--data_dir", help="a folder with mnist.npz, ...")
    parser.add_argument("--model", default="mlp", choices=["mlp", "lenet"])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="of the base")
    parser.add_argument("--update_every", type=int, default=1, help="steps between updates of v")
    parser.add_argument("--bases", nargs="*", choices=BASES, default=list(BASES))
    return parser.parse_args()


def optimizers(base, arguments):
    """Returns the wrapped optimizers by name, and the base optimizer as the last."""

    def plain():
        return BASES[base](arguments.learning_rate)

    def wrapped(**settings):
        return hessian.NegativeCurvature(plain(), update_every=arguments.update_every, **settings)

    return {
        f"{base} + curvature": wrapped,
        f"{base} + followed only": lambda: wrapped(step_sizes=()),
        base: plain,
    }


class Run:
    """One training: its curve of (steps, seconds, loss, error), and measurements of v."""

    def __init__(self, make, splits, arguments, seed):
        keras.utils.set_random_seed(seed)
        self.x, self.y = splits.train.x.astype("float32"), splits.train.y
        self.test = splits.test.x.astype("float32"), splits.test.y
        self.model = models.build(arguments.model, self.x.shape[1:], 10)
        self.optimizer = make()
        self.model.compile(self.optimizer, LOSS)
        self.follows = isinstance(self.optimizer, hessian.NegativeCurvature)
        if self.follows:
            self.optimizer.attach(self.model)
        else:
            self.optimizer.build(self.model.trainable_variables)
        self.rng = np.random.default_rng(seed)
        self.rows = np.zeros(0, int)
        self.curve, self.shares, self.seconds, self.steps = [], [], 0.0, 0
        self.few = self.x[:2000], self.y[:2000]
        self._warm_up()

    def _warm_up(self):
        """Compiles the training step, and restores all variables."""
        variables = [*self.model.variables, *self.optimizer.variables]
        before = [v.numpy() for v in variables]
        self.model.fit(self.x[: BATCH * CHUNK], self.y[: BATCH * CHUNK], BATCH, verbose=0)
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)

    def chunk(self):
        size = BATCH * CHUNK
        while len(self.rows) < size:
            self.rows = np.append(self.rows, self.rng.permutation(len(self.y)))
        rows, self.rows = self.rows[:size], self.rows[size:]
        x, y = self.x[rows], self.y[rows]
        start = time.perf_counter()
        self.model.fit(x, y, BATCH, shuffle=False, verbose=0)
        self.seconds += time.perf_counter() - start
        self.steps += CHUNK

    def note(self):
        logits = self.model.predict(self.few[0], batch_size=1000, verbose=0)
        loss = float(np.mean(LOSS(self.few[1], logits)))
        predicted = self.model.predict(self.test[0], batch_size=1000, verbose=0).argmax(-1)
        error = float(np.mean(predicted != self.test[1]))
        self.curve.append((self.steps, self.seconds, loss, error))

    def share(self):
        """Returns v'Hv and the smallest eigenvalue, for the loss on 2,000 examples."""
        H = hessian.HessianOperator(self.model, LOSS, self.few, check=False)
        v = self.optimizer.direction.numpy()
        v = v / np.linalg.norm(v)
        smallest = hessian.extreme_eigenpairs(H, largest=0, smallest=1, tol=1e-2).values[0]
        self.shares.append((float(v @ (H @ v)), smallest))

    def until(self, steps, seconds, share_every=None):
        while self.steps < steps or self.seconds < seconds:
            self.chunk()
            if self.steps % (2 * CHUNK) == 0:
                self.note()
            if share_every and self.steps % share_every == 0:
                self.share()
        if self.curve[-1][0] != self.steps:
            self.note()
        return self


def mean(values, digits=4):
    values = np.asarray(values, float)
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return f"{values.mean():.{digits}f} ± {error:.{digits}f}"


def at_steps(run, steps):
    return next(row for row in run.curve if row[0] >= steps)


def main():
    arguments = parse_arguments()
    splits = datasets.load(arguments.dataset, data_dir=arguments.data_dir)
    half = max(CHUNK, arguments.steps // 2 // CHUNK * CHUNK)
    for base in arguments.bases:
        runs = {}
        for seed in range(arguments.seeds):
            seconds = 0.0
            for name, make in optimizers(base, arguments).items():
                run = Run(make, splits, arguments, seed)
                if run.follows:
                    run.until(arguments.steps, 0.0, half)
                    seconds = seconds or run.seconds
                else:
                    run.until(arguments.steps, seconds)
                runs.setdefault(name, []).append(run)
                keras.backend.clear_session()
        print_table(base, runs, arguments)


def print_table(base, runs, arguments):
    print(
        f"\n{arguments.model}, {base} at {arguments.learning_rate:g}, batches of {BATCH},"
        f" {arguments.seeds} seeds, {arguments.steps} steps"
    )
    print(f"{'':26}{'train loss':>18}{'test error':>18}{'step':>7}{'taken':>7}")
    per_step = np.median([r.seconds / r.steps for r in runs[base]])
    for name, several in runs.items():
        ends = [at_steps(run, arguments.steps) for run in several]
        cost = np.median([r.seconds / r.steps for r in several]) / per_step
        taken = ""
        if several[0].follows:
            taken = f"{np.mean([float(r.optimizer.taken) for r in several]):.0f}"
        print(
            f"{name:26}{mean([e[2] for e in ends]):>18}{mean([e[3] for e in ends]):>18}"
            f"{cost:7.1f}{taken:>7}"
        )
    ends = [run.curve[-1] for run in runs[base]]
    steps = np.mean([e[0] for e in ends])
    print(
        f"{base + ', equal time':26}{mean([e[2] for e in ends]):>18}"
        f"{mean([e[3] for e in ends]):>18}   {steps:.0f} steps"
    )
    for name, several in runs.items():
        if several[0].shares:
            shares = np.mean([run.shares for run in several], axis=0)
            text = "  ".join(f"{v:.3f} of {smallest:.3f}" for v, smallest in shares)
            print(f"{name}: v'Hv {text}")


if __name__ == "__main__":
    main()
