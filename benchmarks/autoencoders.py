"""Speed of chapter 3: exact solutions, fits, contraction and Metropolis-Hastings.

The methods are run alternately in one process. The table has medians over rounds, of seconds and of
ratios within a round. JAX, if it is installed, runs the same chains with the same network,
compiled.

    python -m benchmarks.autoencoders
    python -m benchmarks.autoencoders --parts banded chains
"""

import argparse
import importlib.util
import os
import statistics
import time

import numpy as np
import scipy.linalg

PAUSE = 0.2  # seconds after which idle threads of the other method no longer spin


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--units", type=int, nargs="*", default=[300, 1000], help="hidden units of the fits"
    )
    parser.add_argument("--chains", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=1000, help="of each chain")
    return parser.parse_args()


def turns(variants, rounds):
    """Returns {name: [seconds of each round]} of functions that take turns; one round warms up."""
    seconds = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, run in variants.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def show(title, seconds, work=None, unit="work"):
    """Prints medians, ratios to the first method, and the work per second if it is known."""
    print(f"\n{title}")
    first = next(iter(seconds.values()))
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, first, strict=True))
        line = f"  {name:44} {1e3 * statistics.median(times):10.3f} ms  {ratio:8.2f}x"
        if work:
            line += f"  {work / statistics.median(times):14,.0f} {unit}/s"
        print(line)


def banded(arguments):
    from thesis_tf.autoencoders.theory import ThreeWells

    wells, sigma = ThreeWells(), 0.01
    grid = wells.grid()
    step = grid[1] - grid[0]
    coupling = sigma**2 * wells((grid[1:] + grid[:-1]) / 2) / step
    bands = np.zeros((2, len(grid)))
    bands[0, 1:] = -coupling
    bands[1] = step * wells(grid)
    bands[1, :-1] += coupling
    bands[1, 1:] += coupling
    dense = np.diag(bands[1]) + np.diag(bands[0, 1:], 1) + np.diag(bands[0, 1:], -1)
    pull = np.diff(coupling, prepend=0, append=0)
    variants = {
        "solveh_banded": lambda: [scipy.linalg.solveh_banded(bands, pull) for _ in range(100)],
        "numpy.linalg.solve": lambda: [np.linalg.solve(dense, pull) for _ in range(100)],
        "scipy.linalg.solve(assume_a='pos')": lambda: [
            scipy.linalg.solve(dense, pull, assume_a="pos") for _ in range(100)
        ],
    }
    show("100 solutions of M = 1,000 equations (Eq 3.11)", turns(variants, arguments.rounds))


def figure(arguments):
    import pathlib
    import tempfile

    from bin.jobs import dae_theory
    from thesis_tf.autoencoders import theory

    wells = theory.ThreeWells()
    grid = wells.grid()

    def compute():
        return theory.exact_scores_1d(wells, grid, dae_theory.THESIS_SIGMAS)

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "wells.png"

        def draw():
            theory.draw_exact_1d(compute(), path)

        variants = {"solutions": compute, "solutions and figure": draw}
        show("Figure 3.4, after imports", turns(variants, arguments.rounds))


def fit(arguments):
    import models
    from thesis_tf import autoencoders, datasets

    x = datasets.spiral(10_000)
    for units in arguments.units:
        starts = {}

        def run(method, iterations, units=units, starts=starts):
            model = models.autoencoder((2,), units=units, dtype="float64")
            starts.setdefault("weights", model.get_weights())
            model.set_weights(starts["weights"])
            counted = []
            autoencoders.fit_full_batch(
                model,
                autoencoders.DenoisingLoss(0.01),
                x,
                method=method,
                max_iterations=iterations,
                callback=lambda *_: counted.append(time.perf_counter()),
            )
            # From the first iteration to the last, without the compilation before the first.
            return (counted[-1] - counted[0]) / (len(counted) - 1)

        ours = [run("lbfgs", 12) for _ in range(3)]
        dense = [run("bfgs", 3) for _ in range(2 if units > 500 else 3)]
        parameters = 5 * units + 2
        print(
            f"\nSeconds per iteration, spiral of 10,000, {units} units, {parameters:,} parameters"
        )
        median = statistics.median
        print(f"  L-BFGS {median(ours):.4f}, scipy's BFGS {median(dense):.3f}:", end=" ")
        print(f"{median(dense) / median(ours):.0f}x")


def contraction(arguments):
    import tensorflow as tf

    import models
    from thesis_tf import autoencoders

    for size, units, batch in ((10, 500, 256), (784, 500, 16)):
        model = models.autoencoder((size,), units=units)
        x = tf.random.normal((batch, size))
        criteria = {
            "denoising": autoencoders.DenoisingLoss(0.1),
            "RCAE, hutchinson": autoencoders.ReconstructionContractiveLoss(
                0.1, jacobian_norm="hutchinson"
            ),
            "RCAE, exact": autoencoders.ReconstructionContractiveLoss(0.1),
        }

        def step(criterion, model=model, x=x):
            @tf.function
            def gradient():
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean(criterion(model, x))
                return tape.gradient(loss, model.trainable_variables)

            return lambda: [v.numpy() for v in gradient()]

        variants = {name: step(criterion) for name, criterion in criteria.items()}
        title = f"A gradient of the loss, {batch} examples, {size}-{units}-{size}"
        show(title, turns(variants, arguments.rounds))


def chains(arguments):
    import tensorflow as tf

    import models
    from thesis_tf import autoencoders, datasets

    sigma, steps, units = 0.1, arguments.steps, 500
    x = datasets.manifold10d().sample(20_000).astype(np.float32)
    model = models.autoencoder((10,), units=units)
    autoencoders.initialize_from_data(
        model.get_layer("encoder"), model.get_layer("decoder"), x, sigma, scales=(0.1,)
    )
    start = x[: arguments.chains]
    estimator = autoencoders.ScoreEstimator(model, sigma=sigma)
    evaluate = tf.function(model)

    def ours(jit_compile):
        # The time includes compilation, which each call does.
        def run():
            return autoencoders.metropolis_hastings(
                estimator,
                start,
                1,
                0.7 * sigma,
                num_steps_between_results=steps - 1,
                seed=1,
                jit_compile=jit_compile,
                verbose=0,
            )

        return run

    points = tf.constant(np.repeat(start, 2, axis=0))  # two points of the path integral

    def limit():
        for _ in range(steps):
            evaluate(points)

    variants = {
        "ours": ours(False),
        "ours, XLA": ours(True),
        "r alone, as often": limit,
    }
    if importlib.util.find_spec("jax"):
        variants["JAX"] = in_jax(model, start, sigma, steps)
    proposals = arguments.chains * steps
    title = (
        f"Metropolis-Hastings, 10-{units}-10, {arguments.chains} chains, two points per proposal"
    )
    show(title, turns(variants, max(3, arguments.rounds // 2)), proposals, "proposals")


def in_jax(model, start, sigma, steps):
    import jax
    import jax.numpy as jnp

    w, b, v, c = map(jnp.asarray, model.get_weights())
    nodes, weights = np.polynomial.legendre.leggauss(2)
    nodes, weights = (nodes + 1) / 2, weights / 2

    def score(x):
        return (jnp.tanh(x @ w + b) @ v + c - x) / sigma**2

    def step(state, key):
        one, two = jax.random.split(key)
        move = 0.7 * sigma * jax.random.normal(one, state.shape, state.dtype)
        points = state + nodes[:, None, None].astype(state.dtype) * move
        flat = score(points.reshape(-1, state.shape[1])).reshape(points.shape)
        ratio = jnp.einsum("knd,nd,k->n", flat, move, weights.astype(state.dtype))
        accept = jnp.log(jax.random.uniform(two, ratio.shape)) < ratio
        return jnp.where(accept[:, None], state + move, state), None

    @jax.jit
    def chain(state, keys):
        return jax.lax.scan(step, state, keys)[0]

    def run():
        keys = jax.random.split(jax.random.PRNGKey(0), steps)
        return chain(jnp.asarray(start), keys).block_until_ready()

    return run


PARTS = {
    "banded": banded,
    "figure": figure,
    "fit": fit,
    "contraction": contraction,
    "chains": chains,
}


def main():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    arguments = parse_arguments()
    for part in arguments.parts:
        PARTS[part](arguments)


if __name__ == "__main__":
    main()
