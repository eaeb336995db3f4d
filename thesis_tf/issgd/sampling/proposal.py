"""The distribution from which examples are drawn, and importance weights (section 7.3)."""

import operator
from collections.abc import Mapping

import numpy as np
import scipy.special

from thesis_tf._core import checks, seeds
from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.issgd.sampling import smoothing as smoothings
from thesis_tf.issgd.sampling.block_sums import BlockSums

LARGEST = 1e300  # the largest norm: sums of 10^8 of these are still finite
_NONE = np.zeros(0, np.int64)


class Proposal:
    """Draws examples in proportion to their last known gradient norms.

    Example i is drawn with a probability q_i in proportion to its smoothed norm, and its loss must
    be multiplied by its importance weight mean(smoothed norms) / smoothed norm_i. The mean gradient
    of a minibatch is then an unbiased estimate of the mean gradient over all examples, for any
    norms, as long as no smoothed norm is 0 (section 7.3; smoothing prevents this).

    An example's smoothed norm is the norm last passed to `update` plus the constant of the
    smoothing. If a norm is unknown or too old, it is replaced by the mean of the usable norms. (The
    thesis' program gave such examples a probability of 0, which excludes them from the estimate.)
    Norms that have become too old are forgotten.

    Draws are uniform, with importance weights of 1, while too few norms are usable, while all of
    them are 0, and while `uniform` is set.

    A proposal is not thread-safe.

    Args:
        num_examples: N.
        smoothing: a rule such as `RelativeToMean(0.5)`, or a number to add as in the thesis
            (7.4.1). The default adds the mean norm: the constant decreases when norms decrease, and
            every example has a probability of at least 1 / 2N. With `Additive(0)`, an example with
            a norm of 0 is never drawn, and if it has a gradient later, the estimate is biased.
        staleness: how many versions old a norm may be; None for any.
        staleness_seconds: how many seconds old a norm may be, by the clock of `time` (7.A.3; the
            thesis used 20); None for any.
        min_usable: the fraction of norms that must be usable for draws by norms (thesis' program:
            0.1).
        seed: the seed of the draws, an integer >= 0.

    Attributes:
        num_examples: N.
        uniform: settable; whether to draw uniformly for any norms.
    """

    def __init__(
        self,
        num_examples: int,
        *,
        smoothing: smoothings.Smoothing | float = smoothings.DEFAULT,
        staleness: float | None = None,
        staleness_seconds: float | None = None,
        min_usable: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.num_examples = checks.positive_integer("`num_examples`", num_examples)
        self.uniform = False
        self._smoothing = smoothings.as_smoothing(smoothing)
        if not 0 <= min_usable <= 1:
            raise checks.invalid("`min_usable`", "in [0, 1]", min_usable)
        self._min_usable = min_usable
        self._seed = seeds.checked_seed(seed)
        self._versions = _Stamps("staleness", staleness, self.num_examples)
        self._times = _Stamps("staleness_seconds", staleness_seconds, self.num_examples)
        self._sums = BlockSums(self.num_examples)
        self._changed = True
        self._mean = 0.0
        self._draws = 0

    def update(
        self,
        indices: Array | slice | None,
        norms: ArrayLike,
        version: ArrayLike | None,
        *,
        time: ArrayLike | None = None,
    ) -> None:
        """Replaces the norms of some examples.

        Args:
            indices: (n,) integers, a slice, or None for all examples. If an index occurs twice, its
                last norm is kept.
            norms: (n,) gradient norms, at least 0; NaN where unknown.
            version: the version of the parameters with which they were measured, an integer or
                (n,).
            time: when they were measured, in seconds of the store's clock, a number or (n,);
                required with `staleness_seconds`.

        Raises:
            ValueError: a norm is negative or infinite, an index is out of range, or lengths
                differ. In this case nothing is replaced.
        """
        where, count = self._where(indices)
        values, unknown = _checked(norms, count)
        versions = self._versions.check("`version`", version, count)
        times = self._times.check("`time`", time, count)
        if not isinstance(where, slice):
            # NumPy does not define which of two values for one index it keeps.
            where, last = np.unique(where[::-1], return_index=True)
            last = count - 1 - last
            values = values[last]
            unknown, versions, times = (_taken(a, last) for a in (unknown, versions, times))
        self._write(where, values, unknown)
        self._versions.write(where, versions)
        self._times.write(where, times)

    def _where(self, indices: Array | slice | None) -> tuple[slice | Array, int]:
        """Returns a slice of step 1 or an array, within [0, N), and its length."""
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
                "Pass `np.flatnonzero(mask)` for a mask." if indices.dtype == bool else None,
                kind=TypeError,
            )
        if indices.size and not 0 <= indices.min() <= indices.max() < self.num_examples:
            raise checks.invalid(
                "`indices`",
                f"in [0, {self.num_examples})",
                f"values from {indices.min()} to {indices.max()}",
            )
        return indices.astype(np.int64), len(indices)

    def advance(self, *, version: float | None = None, time: float | None = None) -> None:
        """Sets the current version and time, relative to which staleness is measured.

        Args:
            version: the version of the parameters that are trained.
            time: the time in seconds of the store's clock.
        """
        if version is not None:
            self._versions.present = checks.finite_number("`version`", version)
        if time is not None:
            self._times.present = checks.finite_number("`time`", time)

    def sample(self, n: int, *, step: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Draws examples, with replacement.

        Args:
            n: the number of draws.
            step: an integer >= 0: the draws then depend only on the seed, the step, and the norms,
                so a resumed training repeats them. None counts the calls.

        Returns:
            (indices, importance weights): (n,) int64, and (n,) float32, the factors of their
            losses.
        """
        n = checks.positive_integer("`n`", n)
        counted = step is None
        if step is None:
            step, self._draws = self._draws, self._draws + 1
        if not hasattr(step, "__index__"):
            raise checks.invalid("`step`", "an integer >= 0", repr(step), kind=TypeError)
        step = operator.index(step)
        if step < 0:
            raise checks.invalid("`step`", "an integer >= 0", step)
        # One stream for each step, and other streams for counted draws.
        bits = np.random.Philox(key=self._seed, counter=[0, int(counted), step, 0])
        rng = np.random.Generator(bits)
        if self.is_uniform:
            return rng.integers(self.num_examples, size=n), np.ones(n, np.float32)
        indices, weights = self._sums.draw(rng.random(n))
        return indices, (self._mean / weights).astype(np.float32)

    @property
    def usable(self) -> float:
        """The fraction of norms that are known and not too old."""
        self._settle()
        return self._sums.known / self.num_examples

    @property
    def uniform_because(self) -> str | None:
        """Why draws are uniform now, for a log; None if they are not."""
        if self.uniform:
            return "uniform draws were asked for"
        usable = self.usable
        if usable == 0:
            return "no gradient norm is known, or none is recent enough"
        if usable < self._min_usable:
            return (
                f"only {usable:.1%} of the gradient norms are known and recent enough, fewer than"
                f" {self._min_usable:.1%}"
            )
        if self._mean == 0:
            return "all gradient norms are 0"
        return None

    @property
    def is_uniform(self) -> bool:
        """Whether draws are uniform now."""
        return self.uniform_because is not None

    def smoothed_norms(self) -> np.ndarray:
        """Returns the smoothed norms, with which draws by norms are in proportion, (N,) float64.

        They are also returned while draws are uniform, for `compare_draws`; all are 1 if no norm is
        known or all norms are 0.
        """
        self._settle()
        return self._sums.smoothed() if self._mean > 0 else np.ones(self.num_examples)

    def probabilities(self) -> np.ndarray:
        """Returns the current distribution of the draws, (N,) float64."""
        if self.is_uniform:
            return np.full(self.num_examples, 1 / self.num_examples)
        norms = self.smoothed_norms()
        return norms / norms.sum()

    def entropy(self) -> float:
        """Returns the current entropy of the draws, in nats; log N if they are uniform."""
        return float(scipy.special.entr(self.probabilities()).sum())

    def _write(self, where: slice | Array, norms: Array, unknown: Array | None) -> None:
        self._sums.write(where, norms, unknown=unknown)
        self._changed = True

    def _settle(self) -> None:
        """Updates fill and constant if norms have changed or become too old."""
        for stamps in (self._versions, self._times):
            expired = stamps.expired()
            if len(expired):
                self._write(expired, np.zeros(len(expired)), np.ones(len(expired), bool))
        if self._changed:
            self._changed = False
            mean = self._sums.total / max(self._sums.known, 1)
            constant = self._smoothing.constant(mean, lambda: self._filled(mean))
            self._mean = self._sums.smooth(mean, constant) / self.num_examples

    def _filled(self, mean: float) -> Array:
        self._sums.smooth(mean, 0.0)
        return self._sums.smoothed()

    def state(self) -> dict[str, np.ndarray]:
        """Returns arrays for a checkpoint, by name."""
        self._settle()
        return {
            "norms": self._sums.weights(),
            "versions": self._versions.stamps.copy(),
            "times": self._times.stamps.copy(),
            "present": np.array([self._versions.present, self._times.present]),
            "uniform": np.array(self.uniform),
            "draws": np.array(self._draws),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores a result of `state`; draws continue as without an interruption.

        Raises:
            ValueError: the state has another number of examples, or lacks the times or versions
                that this proposal's thresholds need.
        """
        if len(state["norms"]) != self.num_examples:
            raise checks.invalid(
                "The state",
                f"of {self.num_examples} examples",
                f"one of {len(state['norms'])}",
                "Gradient norms belong to the examples of one data set, in its order.",
            )
        norms, unknown = _checked(state["norms"], self.num_examples)
        self._versions.check_state(state["versions"])
        self._times.check_state(state["times"])
        self._versions.restore(state["versions"])
        self._times.restore(state["times"])
        self._write(slice(0, self.num_examples), norms, unknown)
        self._versions.present, self._times.present = map(float, state["present"])
        self.uniform = bool(state["uniform"])
        self._draws = int(state["draws"])


def _taken(array: Array | None, rows: Array) -> Array | None:
    """Returns rows of an array; returns scalars and None unchanged."""
    return array if array is None or not array.ndim else array[rows]


def _checked(given: ArrayLike, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns norms as floats, and a mask (count,) of unknown ones, None if all are known."""
    norms = np.asarray(given)
    if norms.dtype not in (np.float32, np.float64):
        norms = checks.real_numbers("`norms`", norms)
    if norms.shape != (count,):
        raise checks.invalid("`norms`", f"of shape ({count},)", norms.shape)
    # The order of floats >= 0 is that of their bits, and NaN, infinity and negative numbers have
    # larger bits: one pass instead of three, 30 us for 600,000 norms instead of 110.
    bits = f"u{norms.itemsize}"
    most = np.float64(LARGEST) if norms.itemsize == 8 else np.finfo(np.float32).max
    if not count or norms.view(bits).max() <= most.view(bits):
        return norms, None
    bad = np.flatnonzero((norms < 0) | (norms > most))
    if len(bad):
        advice = "Pass norms, not their logarithms."
        if norms[bad[0]] > 0:
            advice = (
                "An infinite norm comes from an example whose loss has diverged: lower the learning"
                " rate, or pass NaN for it."
            )
        raise checks.invalid(
            "`norms`",
            f"at least 0 and at most {LARGEST:g}, or NaN where they are unknown",
            f"{norms[bad[0]]} at position {bad[0]}, and {len(bad) - 1} more",
            advice,
        )
    return norms, np.isnan(norms)


class _Stamps:
    """When each norm was measured, in versions or seconds; kept only with a threshold.

    Attributes:
        stamps: (N,) float64, infinite where a norm is unknown; (0,) without a threshold.
        present: the current version or time, relative to which staleness is measured.
    """

    def __init__(self, name: str, threshold: float | None, size: int) -> None:
        if threshold is not None and not threshold >= 0:
            raise checks.invalid(f"`{name}`", "at least 0, or None for no limit", threshold)
        self._name = name
        self._threshold = threshold
        self.stamps = np.full(0 if threshold is None else size, np.inf)
        self.present: float = -np.inf
        self._oldest: float = np.inf  # no stamp is below it

    def check(self, name: str, given: ArrayLike | None, count: int) -> Array | None:
        if self._threshold is None:
            return None
        if given is None:
            raise checks.invalid(name, f"given, since `{self._name}` is set", None)
        stamps = np.asarray(given, np.float64)
        if stamps.shape not in ((), (count,)) or not np.isfinite(stamps).all():
            raise checks.invalid(
                name, f"a finite number, or ({count},) of them", f"an array of {stamps.shape}"
            )
        return stamps

    def write(self, where: slice | Array, stamps: Array | None) -> None:
        if stamps is not None and np.size(stamps):
            self.stamps[where] = stamps
            self._oldest = min(self._oldest, np.min(stamps))

    def expired(self) -> Array:
        """Returns the examples whose norms have become too old since the last call, (n,) int64."""
        if self._threshold is None or self.present - self._threshold <= self._oldest:
            return _NONE
        limit = self.present - self._threshold
        expired = np.flatnonzero(self.stamps < limit)
        self.stamps[expired] = np.inf
        self._oldest = self.stamps.min()
        return expired

    def check_state(self, stamps: Array) -> None:
        if self._threshold is not None and np.shape(stamps) != self.stamps.shape:
            raise checks.invalid(
                "The state",
                f"of a proposal with `{self._name}`",
                "one without",
                "When its gradient norms were measured is not known.",
            )

    def restore(self, stamps: Array) -> None:
        if self._threshold is not None:
            self.stamps[:] = stamps
            self._oldest = self.stamps.min()
