"""The bootstrap: one resample-count matrix for all metrics, and the distribution it gives each of them.

A resample of n units is fully described by how often it drew each unit. With those counts as a matrix
(resamples, n), the resampled sums of any sufficient statistics are one matrix product, so all metrics of a run see
the same resamples and none of them pays for drawing. ``scipy.stats.bootstrap`` gives the same interval of a mean
(tests/stats/test_bootstrap.py) but redraws for each metric: every metric after the first takes six times as long for
1,000 dialogues and fifteen times as long for 10,000 (benchmarks/test_hot_paths.py). Error rates: docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.stats.types import Aggregate, FloatArray

RESAMPLES = 10_000
SEED = 42

_NORMAL = NormalDist()
_KEEP_BYTES = 256 * 2**20
_INDICES_PER_BLOCK = 100_000
_CELLS_PER_PRODUCT = 1_000_000


class Resamples:
    """The resamples of ``units`` units: the same for every metric, every block size and every machine.

    The draws are ``numpy.random.default_rng(seed).integers(0, units, (resamples, units))``, those of
    ``scipy.stats.bootstrap`` with that generator. Counts are kept (one byte each) while they fit in 256 MiB.
    """

    def __init__(self, units: int, *, resamples: int = RESAMPLES, seed: int = SEED) -> None:
        if units < 1 or resamples < 1:
            raise ValueError("a bootstrap needs at least one unit and one resample")
        self.units = units
        self.resamples = resamples
        self.seed = seed
        self._counts: NDArray[np.uint8] | None = None

    @property
    def size(self) -> int:
        """Size of the cached counts in bytes; 0 when they are redrawn each time."""
        needed = self.units * self.resamples
        return needed if needed <= _KEEP_BYTES else 0

    def sums(self, statistics: FloatArray) -> FloatArray:
        """Return the sums over each resample, shape (resamples, k), of statistics of shape (units, k)."""
        if statistics.shape[0] != self.units:
            raise ValueError(f"statistics of {statistics.shape[0]} units given to resamples of {self.units}")
        result = np.empty((self.resamples, statistics.shape[1]))
        start = 0
        for block in self.blocks():
            stop = start + block.shape[0]
            with np.errstate(over="ignore", invalid="ignore"):  # overflowing sums are later rejected as not finite
                np.matmul(block.astype(np.float64), statistics, out=result[start:stop])
            start = stop
        return result

    def blocks(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the count matrix in order, in blocks of rows (resamples)."""
        rows = max(1, _CELLS_PER_PRODUCT // self.units)
        if self._counts is None and self.size:
            self._counts = np.concatenate(list(self._draw()))
        if self._counts is None:
            yield from self._draw()
        else:
            for start in range(0, self.resamples, rows):
                yield self._counts[start : start + rows]

    def _draw(self) -> Iterator[NDArray[np.uint8]]:
        generator = np.random.default_rng(self.seed)
        rows = max(1, _INDICES_PER_BLOCK // self.units)
        for start in range(0, self.resamples, rows):
            drawn = min(rows, self.resamples - start)
            indices = generator.integers(0, self.units, (drawn, self.units))
            indices += np.arange(drawn)[:, None] * self.units
            counts = np.bincount(indices.ravel(), minlength=drawn * self.units)
            # A byte is enough: the chance of drawing one of 256 or more units 256 times is below 1e-500.
            yield counts.astype(np.uint8).reshape(drawn, self.units)


@dataclass(frozen=True)
class Bootstrap:
    """The bootstrap distribution of one value, ready for intervals and tests at any level.

    ``draws`` are sorted and finite. ``bias`` (z0) and ``acceleration`` (a) are those of the BCa interval
    (Efron 1987, "Better bootstrap confidence intervals"); both zero make it the percentile interval.
    ``standard_error`` is the jackknife's (for a mean: s/√n), or the draws' own where there is none.

    A BCa interval takes the spread that it saw for the true one, and so is too short where few units differ, where a
    few differ by far more than the others, or where there are few at all. With ``freedom`` (``degrees_of_freedom``) it
    ends at Student's critical value instead of the normal one, and is never shorter than the t interval of the
    jackknife. Without, it is the plain one.
    """

    value: float
    draws: FloatArray
    bias: float
    acceleration: float
    standard_error: float
    method: str
    freedom: float | None = None

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the two-sided equal-tailed interval."""
        critical = self._deviate(0.5 + confidence / 2.0)
        low, high = (float(end) for end in np.quantile(self.draws, [self._level(-critical), self._level(critical)]))
        if self.freedom is None:
            return low, high
        half = critical * self.standard_error
        return min(low, self.value - half), max(high, self.value + half)

    def p_below(self, margin: float) -> float:
        """Return the one-sided p-value of "the true value is at most ``margin``".

        The test inverts the interval: p is below (1 - confidence)/2 exactly when the interval's low end is above the
        margin. Draws equal to the margin count towards it. Never below 1/(resamples + 1).
        """
        return self._larger(self._tail(_position(self.draws, margin, "right")), margin - self.value)

    def p_above(self, margin: float) -> float:
        """Return the one-sided p-value of "the true value is at least ``margin``"; see ``p_below``."""
        return self._larger(1.0 - self._tail(_position(self.draws, margin, "left")), self.value - margin)

    def _larger(self, probability: float, distance: float) -> float:
        """Return the bootstrap's probability, or that of the t interval's ``distance`` if it is larger."""
        if self.freedom is not None and self.standard_error > 0.0:
            probability = max(probability, self._probability(distance / self.standard_error))
        return min(1.0, max(probability, 1.0 / (self.draws.size + 1)))

    def _deviate(self, probability: float) -> float:
        from scipy.special import stdtrit

        return _NORMAL.inv_cdf(probability) if self.freedom is None else float(stdtrit(self.freedom, probability))

    def _probability(self, deviate: float) -> float:
        from scipy.special import stdtr

        return _NORMAL.cdf(deviate) if self.freedom is None else float(stdtr(self.freedom, deviate))

    def _level(self, deviate: float) -> float:
        """Return the level of the draws at which the corrected interval ends that reaches ``deviate`` errors out."""
        shifted = self.bias + deviate
        scale = 1.0 - self.acceleration * shifted
        if scale <= 0.0:  # beyond the correction's pole: use the most extreme draw
            return 1.0 if self.acceleration > 0.0 else 0.0
        return _NORMAL.cdf(self.bias + shifted / scale)

    def _tail(self, level: float) -> float:
        """Return the one-sided probability whose corrected interval ends at ``level``: the inverse of ``_level``."""
        if level <= 0.0 or level >= 1.0:
            return level
        distance = _NORMAL.inv_cdf(level) - self.bias
        scale = 1.0 + self.acceleration * distance
        if scale <= 0.0:
            return 0.0 if distance < 0.0 else 1.0
        return self._probability(distance / scale - self.bias)


def degrees_of_freedom(pull: FloatArray, units_for_one: float = 5.0) -> float:
    """Return Student's degrees of freedom for a standard error estimated from these deviations, one per unit.

    A variance of n values with kurtosis k is as uncertain as one of normal values with 2n/(k - 1) degrees of freedom
    (Box 1953, "Non-normality and tests on variances"; for normal values k is 3). If m of n units differ, and by about
    as much, k is n/m: this counts the units that differ. A sample shows less kurtosis than the distribution has, so a
    quarter of it is used, and never more than n/``units_for_one``: with n/5 the table of docs/statistics.md meets its
    limits also for lognormal differences of ten units.
    """
    squares = float((pull**2).sum())
    if not 0.0 < squares < math.inf:
        return 1.0
    kurtosis = pull.size * float((pull**4).sum()) / squares**2
    return max(1.0, pull.size / max(units_for_one, 2.0 * (kurtosis - 1.0)))


def bca(statistics: FloatArray, aggregate: Aggregate, sums: FloatArray, *, magnitude: float = 0.0) -> Bootstrap | None:
    """Return the BCa distribution of ``aggregate`` over units, or None where it has no spread or is not finite.

    ``statistics`` (n, k) are the units' own, ``sums`` (resamples, k) those of the resamples. The jackknife is the
    total minus each row, so it costs O(n). Undefined draws (resamples in which no unit has a value) are dropped.
    ``magnitude`` is the size of the values that a difference is taken of: a spread within their rounding error counts
    as none. If all draws fall on one side of the value, BCa is undefined; the percentile interval is used instead and
    ``method`` says so.
    """
    total = statistics.sum(axis=0)
    with np.errstate(all="ignore"):
        value = float(aggregate(total))
        draws = np.asarray(aggregate(sums), dtype=np.float64)
        left_out = np.asarray(aggregate(total - statistics), dtype=np.float64)
    draws = np.sort(draws[np.isfinite(draws)])
    spread = float(draws[-1] - draws[0]) if draws.size else 0.0
    if not np.isfinite(value) or draws.size < sums.shape[0] / 2 or spread <= 1e-12 * max(abs(value), magnitude, 1e-300):
        return None
    bias = _bias(draws, value, 1e-10 * spread)
    acceleration, error, freedom = pulls_of(left_out[np.isfinite(left_out)])
    method = f"BCa bootstrap, {sums.shape[0]:,} resamples"
    if bias is None:
        method = f"percentile bootstrap, {sums.shape[0]:,} resamples (BCa does not exist here)"
        bias = acceleration = 0.0
    method = f"{method}, not below t with {freedom:.3g} d.f."
    return Bootstrap(value, draws, bias, acceleration, error or _spread(draws), method, freedom)


def percentile(value: float, draws: FloatArray, method: str) -> Bootstrap:
    """Return the plain percentile bootstrap, for values whose jackknife is not valid (medians, quantiles)."""
    draws = np.sort(draws[np.isfinite(draws)])
    return Bootstrap(value, draws, 0.0, 0.0, _spread(draws), method)


def _spread(draws: FloatArray) -> float:
    with np.errstate(all="ignore"):
        return float(draws.std())


def _bias(draws: FloatArray, value: float, tie: float) -> float | None:
    """Return z0, the normal quantile of the share of draws below the value (ties count half, as in scipy)."""
    below = int(np.searchsorted(draws, value - tie, side="left"))
    at_most = int(np.searchsorted(draws, value + tie, side="right"))
    share = (below + at_most) / (2 * draws.size)
    return None if share <= 0.0 or share >= 1.0 else _NORMAL.inv_cdf(share)


def pulls_of(left_out: FloatArray) -> tuple[float, float, float]:
    """Return the jackknife's acceleration, standard error and its degrees of freedom.

    ``left_out`` are the values without each unit in turn.
    """
    n = left_out.size
    if n < 2:
        return 0.0, 0.0, 1.0
    with np.errstate(all="ignore"):
        pull = left_out.mean() - left_out
    largest = float(np.abs(pull).max())
    if not 0.0 < largest < np.inf:
        return 0.0, 0.0, 1.0
    pull = pull / largest  # so that its powers do not overflow
    squares = float((pull**2).sum())
    acceleration = float((pull**3).sum()) / (6.0 * squares**1.5)
    return acceleration, largest * float(np.sqrt(squares * (n - 1) / n)), degrees_of_freedom(pull)


def _position(draws: FloatArray, margin: float, side: Literal["left", "right"]) -> float:
    """Return the level (the last for "right", the first for "left") at which ``np.quantile`` reaches the margin."""
    last = draws.size - 1
    index = int(np.searchsorted(draws, margin, side=side))
    if index == 0:
        return 0.0
    if index > last:
        return 1.0
    step = (margin - draws[index - 1]) / (draws[index] - draws[index - 1])
    return float((index - 1 + step) / last)
