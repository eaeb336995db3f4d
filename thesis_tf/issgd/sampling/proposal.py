"""From which distribution examples are drawn, and what keeps their gradient unbiased (7.3)."""

import operator

import numpy as np
import scipy.special

from thesis_tf._core import checks
from thesis_tf.issgd.sampling import smoothing as smoothings
from thesis_tf.issgd.sampling.block_sums import BlockSums

LARGEST = 1e300  # of a weight: sums of 10^8 such are still finite
_NONE = np.zeros(0, np.int64)


class Proposal:
    """Draws examples in proportion to their last known gradient norms.

    Example i is drawn with a probability q_i in proportion to its effective weight, and its loss is
    to be multiplied by mean(weights) / weight_i. The mean gradient of a minibatch so scaled is then
    an unbiased estimate of the mean gradient over all examples, whatever the weights are, as long
    as none is 0 (thesis, 7.3; the smoothing sees to that).

    An example's effective weight is what was last given to `update`, or, where nothing was yet or
    where that is too old, the mean of the weights that can be used; plus the smoothing's constant.
    (The thesis' own program gave examples with old weights a probability of 0, which leaves them
    out of the estimate.) Weights that became too old are forgotten.

    Draws are uniform, with scales of 1, while too few weights can be used, while all of them are
    0, and while `uniform` is set.

    Not to be used from several threads without a lock.

    Args:
        num_examples: N.
        smoothing: a rule of `smoothing.py`, or a number that is added as in the thesis (7.4.1). The
            default adds the mean weight: the constant follows norms that shrink, and no example has
            a probability below 1 / 2N. With `Additive(0)` an example whose norm was 0 a while ago
            is never drawn, and if it has a gradient now, the estimate is biased.
        staleness: how many versions old a weight may be; None for any age.
        staleness_seconds: how many seconds old a weight may be, by the clock that gave `time`
            (7.A.3; the thesis used 20); None for any age.
        min_usable: the part of the weights that must be usable for draws by weights; a tenth in the
            thesis' program.
        seed: of the draws, an integer of at least 0.

    Attributes:
        num_examples: N.
        uniform: settable; whether to draw uniformly whatever the weights are.
    """

    def __init__(
        self,
        num_examples,
        smoothing=smoothings.DEFAULT,
        staleness=None,
        *,
        staleness_seconds=None,
        min_usable=0.1,
        seed=0,
    ):
        self.num_examples = checks.positive_integer("`num_examples`", num_examples)
        self.uniform = False
        self._smoothing = smoothings.as_smoothing(smoothing)
        if not 0 <= min_usable <= 1:
            raise checks.invalid("`min_usable`", "in [0, 1]", min_usable)
        self._min_usable = min_usable
        self._seed = operator.index(seed)
        if self._seed < 0:
            raise checks.invalid("`seed`", "at least 0", seed)
        self._versions = _Ages("staleness", staleness, self.num_examples)
        self._times = _Ages("staleness_seconds", staleness_seconds, self.num_examples)
        self._sums = BlockSums(self.num_examples)
        self._changed = True
        self._mean = 0.0
        self._draws = 0

    def update(self, indices, weights, version, time=None):
        """Replaces the weights of some examples.

        Args:
            indices: (n,) integers, a slice, or None for all examples. Of an index that comes twice,
                the last weight is kept.
            weights: (n,) norms, at least 0; NaN for one that isn't known.
            version: of the parameters that they were measured with, an integer or (n,) of them.
            time: when, in seconds of the store's clock, a number or (n,) of them. Needed where
                there is a threshold in seconds.

        Raises:
            ValueError: a weight that is negative or infinite, an index out of range, lengths that
                differ. Nothing is replaced then.
        """
        where, count = self._where(indices)
        weights, unknown = _checked(weights, count)
        version = self._versions.check("`version`", version, count)
        time = self._times.check("`time`", time, count)
        if not isinstance(where, slice):
            # NumPy doesn't say which of two values for one index stays.
            where, last = np.unique(where[::-1], return_index=True)
            last = count - 1 - last
            weights, unknown, version, time = (
                values[last] if np.ndim(values) else values
                for values in (weights, unknown, version, time)
            )
        self._write(where, weights, unknown)
        self._versions.write(where, version)
        self._times.write(where, time)

    def _where(self, indices):
        """Returns a slice of step 1 or an array, within [0, N), and how many they are."""
        if indices is None:
            return slice(0, self.num_examples), self.num_examples
        if isinstance(indices, slice):
            chosen = range(self.num_examples)[indices]
            if chosen.step == 1 and chosen:
                return slice(chosen.start, chosen.stop), len(chosen)
            return np.array(chosen, np.int64), len(chosen)
        indices = np.asarray(indices)
        if indices.ndim != 1 or not (indices.size == 0 or indices.dtype.kind in "iu"):
            raise checks.invalid(
                "`indices`",
                "integers of shape (n,), a slice or None",
                f"{indices.dtype} of shape {indices.shape}",
                "Give `np.flatnonzero(mask)` for a mask." if indices.dtype == bool else None,
                kind=TypeError,
            )
        if indices.size and not 0 <= indices.min() <= indices.max() < self.num_examples:
            raise checks.invalid(
                "`indices`",
                f"in [0, {self.num_examples})",
                f"values from {indices.min()} to {indices.max()}",
            )
        return indices.astype(np.int64), len(indices)

    def advance(self, version=None, time=None):
        """Says what the present is, from which ages are measured.

        Args:
            version: of the parameters that are trained.
            time: in seconds of the store's clock.
        """
        if version is not None:
            self._versions.present = version
        if time is not None:
            self._times.present = time

    def sample(self, n, step=None):
        """Draws examples, with replacement.

        Args:
            n: how many.
            step: an integer of at least 0: the draw then depends on the seed, the step, and the
                weights alone, and a run that is resumed repeats it. None counts the calls.

        Returns:
            (indices, scales): (n,) int64, and (n,) float32, what to multiply their losses by.
        """
        n = checks.positive_integer("`n`", n)
        counted = step is None
        if counted:
            step, self._draws = self._draws, self._draws + 1
        if step < 0:
            raise checks.invalid("`step`", "an integer of at least 0", step)
        # A stream for each step, and others for draws that are counted.
        bits = np.random.Philox(key=self._seed, counter=[0, int(counted), operator.index(step), 0])
        rng = np.random.Generator(bits)
        if self.is_uniform:
            return rng.integers(self.num_examples, size=n), np.ones(n, np.float32)
        indices, weights = self._sums.draw(rng.random(n))
        return indices, (self._mean / weights).astype(np.float32)

    @property
    def usable(self):
        """The part of the weights that is known and not too old, in [0, 1]."""
        self._settle()
        return self._sums.known / self.num_examples

    @property
    def uniform_because(self):
        """Why draws are uniform now, for a log; None if they aren't."""
        if self.uniform:
            return "uniform draws were asked for"
        usable = self.usable
        if usable == 0:
            return "no example's weight is known, or none is recent enough"
        if usable < self._min_usable:
            return (
                f"weights are known and recent enough of {usable:.1%} of the examples, of at least"
                f" {self._min_usable:.1%}"
            )
        if self._mean == 0:
            return "all weights are 0"
        return None

    @property
    def is_uniform(self):
        """Whether draws are uniform now."""
        return self.uniform_because is not None

    def effective_weights(self):
        """What draws by weights are in proportion to, (N,) float64.

        Also while draws are uniform, so that `variance.compare` can tell when they need not be; all
        1 if no weight is known or all are 0.
        """
        self._settle()
        return self._sums.smoothed() if self._mean > 0 else np.ones(self.num_examples)

    def probabilities(self):
        """The distribution of the draws now, (N,) float64."""
        if self.is_uniform:
            return np.full(self.num_examples, 1 / self.num_examples)
        weights = self.effective_weights()
        return weights / weights.sum()

    def entropy(self):
        """The entropy of the draws now, in nats; log N for uniform ones."""
        return float(scipy.special.entr(self.probabilities()).sum())

    def _write(self, where, weights, unknown):
        self._sums.write(where, weights, unknown)
        self._changed = True

    def _settle(self):
        """Brings fill and constant up to date; does nothing where nothing changed."""
        for ages in (self._versions, self._times):
            expired = ages.expired()
            if len(expired):
                self._write(expired, np.zeros(len(expired)), np.ones(len(expired), bool))
        if self._changed:
            self._changed = False
            mean = self._sums.total / max(self._sums.known, 1)
            constant = self._smoothing.constant(mean, lambda: self._filled(mean))
            self._mean = self._sums.smooth(mean, constant) / self.num_examples

    def _filled(self, mean):
        self._sums.smooth(mean, 0.0)
        return self._sums.smoothed()

    def state(self):
        """What a checkpoint needs beside the arguments, {name: array}, for `np.savez`."""
        self._settle()
        return {
            "weights": self._sums.weights(),
            "versions": self._versions.stamps.copy(),
            "times": self._times.stamps.copy(),
            "present": np.array([self._versions.present, self._times.present]),
            "uniform": np.array(self.uniform),
            "draws": np.array(self._draws),
        }

    def restore(self, state):
        """Takes over what `state` returned; draws go on as they would have.

        Raises:
            ValueError: it is of another number of examples, or of a proposal without a threshold
                that this one has.
        """
        if len(state["weights"]) != self.num_examples:
            raise checks.invalid(
                "The state",
                f"of {self.num_examples} examples",
                f"one of {len(state['weights'])}",
                "Weights belong to the examples of one data set, in its order.",
            )
        weights, unknown = _checked(state["weights"], self.num_examples)
        both = (self._versions, state["versions"]), (self._times, state["times"])
        for ages, stamps in both:
            ages.check_state(stamps)
        for ages, stamps in both:
            ages.restore(stamps)
        self._write(slice(0, self.num_examples), weights, unknown)
        self._versions.present, self._times.present = map(float, state["present"])
        self.uniform = bool(state["uniform"])
        self._draws = int(state["draws"])


def _checked(weights, count):
    """Returns weights as floats, and which are unknown, (count,) bool, or None if none is."""
    weights = np.asarray(weights)
    if weights.dtype not in (np.float32, np.float64):
        weights = weights.astype(np.float64)
    if weights.shape != (count,):
        raise checks.invalid("`weights`", f"of shape ({count},)", weights.shape)
    # Floats of at least 0 are in the order of their bits, and NaN, infinity and all that has a sign
    # are above them: one pass instead of three, 30 us for 600,000 weights instead of 110.
    bits = f"u{weights.itemsize}"
    most = np.float64(LARGEST) if weights.itemsize == 8 else np.finfo(np.float32).max
    if not count or weights.view(bits).max() <= most.view(bits):
        return weights, None
    bad = np.flatnonzero((weights < 0) | (weights > most))
    if len(bad):
        raise checks.invalid(
            "`weights`",
            f"at least 0 and at most {LARGEST:g}, or NaN where they are unknown",
            f"{weights[bad[0]]} at position {bad[0]}, and {len(bad) - 1} more",
            "A norm that is infinite comes from an example whose loss has diverged: lower the "
            "learning rate, or give NaN for it."
            if weights[bad[0]] > 0
            else "Give norms, not their logarithms.",
        )
    return weights, np.isnan(weights)


class _Ages:
    """When each weight is from, in versions or seconds; nothing is kept without a threshold.

    Attributes:
        stamps: (N,) float64, infinite where there is no weight; (0,) without a threshold.
        present: what ages are measured from.
    """

    def __init__(self, name, threshold, size):
        if threshold is not None and not threshold >= 0:
            raise checks.invalid(f"`{name}`", "at least 0, or None for any age", threshold)
        self._name = name
        self._threshold = threshold
        self.stamps = np.full(0 if threshold is None else size, np.inf)
        self.present = -np.inf
        self._oldest = np.inf  # no stamp is below it

    def check(self, name, stamps, count):
        if self._threshold is None:
            return None
        if stamps is None:
            raise checks.invalid(name, f"given, since there is `{self._name}`", None)
        stamps = np.asarray(stamps, np.float64)
        if stamps.shape not in ((), (count,)) or not np.isfinite(stamps).all():
            raise checks.invalid(
                name, f"a finite number, or ({count},) of them", f"an array of {stamps.shape}"
            )
        return stamps

    def write(self, where, stamps):
        if self._threshold is not None and np.size(stamps):
            self.stamps[where] = stamps
            self._oldest = min(self._oldest, np.min(stamps))

    def expired(self):
        """Returns the examples whose weights have become too old, once, as (n,) int64."""
        if self._threshold is None or self.present - self._threshold <= self._oldest:
            return _NONE
        limit = self.present - self._threshold
        expired = np.flatnonzero(self.stamps < limit)
        self.stamps[expired] = np.inf
        self._oldest = self.stamps.min()
        return expired

    def check_state(self, stamps):
        if self._threshold is not None and np.shape(stamps) != self.stamps.shape:
            raise checks.invalid(
                "The state",
                f"of a proposal with `{self._name}`",
                "one without",
                "When its weights were measured isn't known.",
            )

    def restore(self, stamps):
        if self._threshold is not None:
            self.stamps[:] = stamps
            self._oldest = self.stamps.min()
