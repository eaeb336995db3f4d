"""Microseconds to draw 128 of 600,000 examples in proportion to norms that have just changed.

In each round every method gets the same new gradient norms, one method after the other in one
process, twice in a row: first with caches filled by the other methods, then with other new norms.
The table has medians over the rounds of microseconds, and of the ratio to the time of `Proposal` in
the same round. "All new" is `update` of all norms and `sample`; "sample alone" excludes the update,
which a master can do when the norms arrive. The other methods get float32 norms, which they neither
check nor keep.

    python -m benchmarks.issgd_draws
    python -m benchmarks.issgd_draws --tensorflow
"""

import argparse
import time

import numpy as np

from thesis_tf.issgd import Proposal, TargetEntropy

OWN = "proposal, all new"


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=600_000)
    parser.add_argument("--draws", type=int, default=128)
    parser.add_argument("--block", type=int, default=2048, help="norms that a worker pushes")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--tensorflow", action="store_true", help="tf.random.categorical as well")
    return parser.parse_args()


def methods(arguments):
    """Returns {name: (preparation, timed function)}, functions of new float32 norms."""
    count, draws, block = arguments.examples, arguments.draws, arguments.block
    rng = np.random.default_rng(1)
    proposal = Proposal(count)
    aged = Proposal(count, staleness=10, staleness_seconds=20.0)
    entropic = Proposal(count, smoothing=TargetEntropy(0.9))

    def nothing(weights):
        pass

    def update(weights):
        proposal.update(None, weights, 0)

    def sample(weights):
        return proposal.sample(draws)

    def own(weights):
        update(weights)
        return sample(weights)

    def own_block(weights):
        proposal.update(slice(0, block), weights[:block], 0)
        return sample(weights)

    def own_aged(weights):
        aged.update(None, weights, 0, time=0.0)
        return aged.sample(draws)

    def own_entropic(weights):
        entropic.update(None, weights, 0)
        return entropic.sample(draws)

    def choice(weights):
        q = weights.astype(np.float64)
        return rng.choice(count, draws, p=q / q.sum())

    def cumulative_sum(weights):
        ends = np.cumsum(weights, dtype=np.float64)
        return np.searchsorted(ends, rng.random(draws) * ends[-1], side="right")

    found = {
        OWN: (nothing, own),
        "proposal, all new, sample alone": (update, sample),
        f"proposal, {block:,} new": (nothing, own_block),
        "proposal, unchanged": (nothing, sample),
        "proposal, all new, two thresholds": (nothing, own_aged),
        "proposal, all new, target entropy": (nothing, own_entropic),
        "Generator.choice(p=...)": (nothing, choice),
        "float64 cumsum, searchsorted": (nothing, cumulative_sum),
    }
    if arguments.tensorflow:
        import tensorflow as tf

        def categorical(weights):
            return tf.random.categorical(tf.math.log(weights)[None], draws).numpy()

        found["tf.random.categorical"] = (nothing, categorical)
    return found


def main():
    arguments = parse_arguments()
    rng = np.random.default_rng(0)
    found = methods(arguments)
    seconds = {name: [] for name in found}
    for _ in range(arguments.rounds + 1):
        both = rng.lognormal(size=(2, arguments.examples)).astype(np.float32)
        for name, (prepare, draw) in found.items():
            times = []
            for weights in both:
                prepare(weights)
                start = time.perf_counter()
                draw(weights)
                times.append(time.perf_counter() - start)
            seconds[name].append(times)
    print(f"{arguments.draws} of {arguments.examples:,}, {arguments.rounds} rounds")
    print(f"{'':36} {'first us':>9} {'ratio':>7} {'again us':>9} {'ratio':>7}")
    own = np.array(seconds[OWN])[1:]  # the first round warms up
    for name, times in seconds.items():
        times = np.array(times)[1:]
        median, ratio = 1e6 * np.median(times, axis=0), np.median(times / own, axis=0)
        cells = "".join(f" {m:9.0f} {r:7.2f}" for m, r in zip(median, ratio, strict=True))
        print(f"{name:36}{cells}")


if __name__ == "__main__":
    main()
