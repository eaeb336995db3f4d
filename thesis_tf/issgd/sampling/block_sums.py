"""Draws in proportion to weights that keep changing, by two levels of sums."""

import numpy as np

from thesis_tf._core.types import Array

BLOCK = 128  # weights; smaller blocks cost more in sums over blocks than they save within them
TOGETHER = 4096  # draws computed at once, with 4 MB of weights


class BlockSums:
    """N weights, some of which may be unknown, with fast draws after changes.

    Examples are drawn in proportion to w + constant, where w = fill if the weight is unknown. Sums
    of `BLOCK` weights determine the block of a draw, and cumulative sums within this block
    determine the example. All sums are in float64: in a float32 cumulative sum of 600,000 weights,
    about 10,000 examples don't change the sum, and would never be drawn.

    Changed weights cost a sum over their blocks. A new `fill` or `constant` costs nothing per
    example, since both enter block by block.

    Args:
        size: N.

    Attributes:
        size: N.
    """

    def __init__(self, size: int) -> None:
        blocks = -(-size // BLOCK)
        self.size = size
        # Weights are 0 where they are unknown, and past the end, where they count as known.
        self._weights = np.zeros((blocks, BLOCK))
        self._is_unknown = np.zeros((blocks, BLOCK), bool)
        self._sizes = np.full(blocks, BLOCK)
        self._sizes[-1] -= blocks * BLOCK - size
        self._sums = np.zeros(blocks)
        self._unknown = np.zeros(blocks, int)
        self._fill = self._constant = 0.0
        self._ends = np.zeros(blocks)
        self.write(slice(0, size), np.zeros(size), unknown=np.ones(size, bool))

    @property
    def known(self) -> int:
        """The number of known weights."""
        return self.size - int(self._unknown.sum())

    @property
    def total(self) -> float:
        """The sum of the known weights."""
        return float(self._sums.sum())

    def write(self, where: slice | Array, weights: Array, *, unknown: Array | None = None) -> None:
        """Replaces weights.

        Args:
            where: a slice of step 1 within [0, N), or (n,) distinct integers in [0, N).
            weights: (n,), at least 0 and finite; unknown weights may have any value.
            unknown: (n,) bool; None if all are known.
        """
        if unknown is not None:
            weights = np.where(unknown, 0.0, weights)
        self._weights.reshape(-1)[where] = weights
        self._is_unknown.reshape(-1)[where] = False if unknown is None else unknown
        blocks: slice | Array
        if isinstance(where, slice):
            blocks = slice(where.start // BLOCK, -(-where.stop // BLOCK))
        else:
            blocks = np.flatnonzero(np.bincount(where // BLOCK))
        # einsum sums each row in an order that does not depend on the other rows, so that the sums
        # after any sequence of writes equal those of one write to the last bit. It takes 80 us for
        # 600,000 weights, np.sum 180.
        self._sums[blocks] = np.einsum("ij->i", self._weights[blocks])
        flags = self._is_unknown[blocks]
        # A count of `BLOCK` fits in uint8.
        self._unknown[blocks] = np.einsum("ij->i", flags.view(np.uint8)) if flags.any() else 0

    def smooth(self, fill: float, constant: float) -> float:
        """Sets the weight of unknown examples and the constant; call it after `write`.

        Returns:
            The sum of the smoothed weights of all examples.
        """
        self._fill, self._constant = fill, constant
        self._ends = np.cumsum(self._sums + self._unknown * fill + self._sizes * constant)
        return float(self._ends[-1])

    def draw(self, uniforms: Array) -> tuple[Array, Array]:
        """Draws by inverting the cumulative distribution.

        Args:
            uniforms: (n,) float64 in [0, 1).

        Returns:
            (indices, weights): (n,) int64, and (n,) float64, their smoothed weights.
            An index whose weight is 0 is never drawn, unless all are 0.
        """
        parts = [
            self._draw(uniforms[first : first + TOGETHER])
            for first in range(0, len(uniforms), TOGETHER)
        ]
        indices, weights = zip(*parts, strict=True)
        return np.concatenate(indices), np.concatenate(weights)

    def _draw(self, uniforms: Array) -> tuple[Array, Array]:
        # A target that is rounded up to the end of the interval would be behind the last example
        # with a positive weight, so the largest number below the end is the maximum.
        targets = np.minimum(uniforms * self._ends[-1], np.nextafter(self._ends[-1], 0))
        blocks = np.searchsorted(self._ends, targets, side="right")
        targets -= np.where(blocks > 0, self._ends[blocks - 1], 0.0)
        weights = self._smoothed(blocks)
        within = np.cumsum(weights, axis=1)
        targets = np.minimum(targets, np.nextafter(within[:, -1], 0))
        columns = (within > targets[:, None]).argmax(axis=1)
        return blocks * BLOCK + columns, weights[np.arange(len(blocks)), columns]

    def _smoothed(self, blocks: Array) -> Array:
        """Returns the smoothed weights of blocks, (n, BLOCK), 0 past the end."""
        weights = self._weights.take(blocks, axis=0)
        weights[self._is_unknown.take(blocks, axis=0)] = self._fill
        weights += self._constant
        last = len(self._sums) - 1
        weights[blocks == last, self._sizes[last] :] = 0
        return weights

    def smoothed(self) -> Array:
        """Returns the smoothed weights, which draws are in proportion to, (N,) float64."""
        return self._smoothed(np.arange(len(self._sums))).reshape(-1)[: self.size]

    def weights(self) -> Array:
        """Returns the weights, (N,) float64, NaN where they are unknown."""
        weights = np.where(self._is_unknown, np.nan, self._weights)
        return weights.reshape(-1)[: self.size]
