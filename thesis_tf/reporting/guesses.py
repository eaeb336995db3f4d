"""Classifiers that are worse than a guess."""

import math

# A network that is surer of itself than it may be on unseen examples can be somewhat worse than a
# guess without a fault of its inputs, so twice as much is required.
TIMES = 2.0


def worse_than_uniform(what: str, nats: float, guess: float) -> list[str]:
    """Returns a sentence if a cross-entropy is more than twice that of a uniform guess.

    Args:
        what: what the cross-entropy is of, the beginning of the sentence.
        nats: the mean cross-entropy; NaN if it isn't known.
        guess: the same of a guess of 1/K for each of K classes, log K.
    """
    if not nats > TIMES * guess > 0 or math.isnan(guess):
        return []
    return [
        f"{what} is {nats:.3g} nats, far worse than that of a uniform guess ({guess:.3g}). If the"
        " network is trained: are the inputs scaled as in its training, and are the labels those"
        " that it predicts?"
    ]
