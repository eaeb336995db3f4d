"""Drawing in proportion to weights that keep changing, in two levels of sums."""

import numpy as np

BLOCK = 128  # examples; in smaller ones the sums over blocks cost more than is saved within them
TOGETHER = 4096  # draws made at once, 4 MB of weights


class BlockSums:
    """N weights, some of them unknown, from which one can draw soon after any of them changed.

    Examples are drawn in proportion to w + constant, with w = fill where the weight is unknown.
    Sums of `BLOCK` weights find a draw's block, cumulative sums of that block's weights alone find
    the example. All sums are float64: in a cumulative sum of 600,000 weights in float32 there are
    some 10,000 examples whose weight doesn't change it, and that are never drawn.

    Weights that change cost a sum over their blocks. A new `fill` or `constant` costs nothing an
    example, since both enter block by block.

    Attributes:
        size: N.
    """

    def __init__(self, size):
        blocks = -(-size // BLOCK)
        self.size = size
        # Weights are 0 where they are unknown, and past the end, where none counts as unknown.
        self._weights = np.zeros((blocks, BLOCK))
        self._is_unknown = np.zeros((blocks, BLOCK), bool)
        self._sizes = np.full(blocks, BLOCK)
        self._sizes[-1] -= blocks * BLOCK - size
        self._sums = np.zeros(blocks)
        self._unknown = np.zeros(blocks, int)
        self._fill = self._constant = 0.0
        self._ends = np.zeros(blocks)
        self.write(slice(0, size), np.zeros(size), np.ones(size, bool))

    @property
    def known(self):
        """How many weights are known."""
        return self.size - int(self._unknown.sum())

    @property
    def total(self):
        """The sum of the known weights."""
        return float(self._sums.sum())

    def write(self, where, weights, unknown=None):
        """Replaces weights.

        Args:
            where: a slice of step 1 within [0, N), or (n,) integers in [0, N), each but once.
            weights: (n,), at least 0 and finite, or anything where they are unknown.
            unknown: (n,) bool; None if all are known.
        """
        if unknown is not None:
            weights = np.where(unknown, 0.0, weights)
        self._weights.reshape(-1)[where] = weights
        self._is_unknown.reshape(-1)[where] = False if unknown is None else unknown
        if isinstance(where, slice):
            blocks = slice(where.start // BLOCK, -(-where.stop // BLOCK))
        else:
            blocks = np.flatnonzero(np.bincount(where // BLOCK))
        # einsum sums a row in an order that doesn't depend on the other rows, so the sums after
        # any sequence of writes are those of one write, to the last bit. It takes 80 us for 600,000
        # weights, np.sum 180.
        self._sums[blocks] = np.einsum("ij->i", self._weights[blocks])
        flags = self._is_unknown[blocks]
        # A count of `BLOCK` fits in uint8.
        self._unknown[blocks] = np.einsum("ij->i", flags.view(np.uint8)) if flags.any() else 0

    def smooth(self, fill, constant):
        """Sets the weight of unknown examples and what is added to all; to be called after `write`.

        Returns:
            The sum over all examples of what they are drawn in proportion to, a float.
        """
        self._fill, self._constant = fill, constant
        self._ends = np.cumsum(self._sums + self._unknown * fill + self._sizes * constant)
        return float(self._ends[-1])

    def draw(self, uniforms):
        """Draws by inverting the cumulative distribution.

        Args:
            uniforms: (n,) float64 in [0, 1).

        Returns:
            (indices, weights): (n,) int64, and (n,) float64, what they were drawn in proportion to.
            No index is drawn whose weight is 0, unless all are.
        """
        parts = [
            self._draw(uniforms[first : first + TOGETHER])
            for first in range(0, len(uniforms), TOGETHER)
        ]
        indices, weights = zip(*parts, strict=True)
        return np.concatenate(indices), np.concatenate(weights)

    def _draw(self, uniforms):
        # A target that is rounded up to the end of its interval would fall behind the last example
        # of positive weight: hence the largest number below that end.
        targets = np.minimum(uniforms * self._ends[-1], np.nextafter(self._ends[-1], 0))
        blocks = np.searchsorted(self._ends, targets, side="right")
        targets -= np.where(blocks > 0, self._ends[blocks - 1], 0.0)
        weights = self._smoothed(blocks)
        within = np.cumsum(weights, axis=1)
        targets = np.minimum(targets, np.nextafter(within[:, -1], 0))
        columns = (within > targets[:, None]).argmax(axis=1)
        return blocks * BLOCK + columns, weights[np.arange(len(blocks)), columns]

    def _smoothed(self, blocks):
        """What examples of some blocks are drawn in proportion to, (n, BLOCK), 0 past the end."""
        weights = self._weights.take(blocks, axis=0)
        weights[self._is_unknown.take(blocks, axis=0)] = self._fill
        weights += self._constant
        last = len(self._sums) - 1
        weights[blocks == last, self._sizes[last] :] = 0
        return weights

    def smoothed(self):
        """What examples are drawn in proportion to, (N,) float64."""
        return self._smoothed(np.arange(len(self._sums))).reshape(-1)[: self.size]

    def weights(self):
        """The weights, (N,) float64, with NaN where they are unknown."""
        weights = np.where(self._is_unknown, np.nan, self._weights)
        return weights.reshape(-1)[: self.size]
