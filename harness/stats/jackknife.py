"""The jackknife: the interval of a value over more units than the bootstrap can afford.

A bootstrap of n units with B resamples draws B·n units for every run. From ``LARGE`` units on, what it adds to the
jackknife's t interval, the skewness of the value's distribution, has shrunk with 1/√n to a few percent of the width
(docs/statistics.md), and the jackknife takes one pass. ``bootstrap.bca`` uses the same standard error and degrees of
freedom for the interval that its own is never shorter than.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.stats.bootstrap import pulls_of
from harness.stats.types import Aggregate, FloatArray

LARGE = 10_000  # more units than this are not resampled

_BLOCK = 1 << 16


@dataclass(frozen=True)
class Jackknife:
    """One value with the jackknife's standard error (for a mean: s/√n) and its degrees of freedom."""

    value: float
    standard_error: float
    freedom: float

    @property
    def method(self) -> str:
        return f"jackknife, t with {self.freedom:.3g} d.f."

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the two-sided equal-tailed t interval."""
        from scipy.special import stdtrit

        half = float(stdtrit(self.freedom, 0.5 + confidence / 2.0)) * self.standard_error
        return self.value - half, self.value + half

    def p_below(self, margin: float) -> float:
        """Return the one-sided p-value of "the true value is at most ``margin``"."""
        from scipy.special import stdtr

        return float(stdtr(self.freedom, (margin - self.value) / self.standard_error))

    def p_above(self, margin: float) -> float:
        """Return the one-sided p-value of "the true value is at least ``margin``"."""
        from scipy.special import stdtr

        return float(stdtr(self.freedom, (self.value - margin) / self.standard_error))


def jackknife(parts: Sequence[FloatArray], aggregate: Aggregate, *, magnitude: float = 0.0) -> Jackknife | None:
    """Return the jackknife of ``aggregate`` over units (Tukey 1958), or None where it has no spread or is not finite.

    ``parts`` are statistics of the same units, each of shape (n, k), that ``aggregate`` gets side by side.
    ``magnitude`` is the size of the values that a difference is taken of: a spread within their rounding error counts
    as none.
    """
    n = len(parts[0])
    total = np.concatenate([part.sum(axis=0) for part in parts])
    left_out = np.empty(n)
    with np.errstate(all="ignore"):
        value = float(aggregate(total))
        for start in range(0, n, _BLOCK):
            rows = np.hstack([part[start : start + _BLOCK] for part in parts])
            left_out[start : start + _BLOCK] = aggregate(total - rows)
    _, error, freedom = pulls_of(left_out[np.isfinite(left_out)])
    rounding = 4.0 * np.finfo(np.float64).eps * math.sqrt(n) * max(abs(value), magnitude)
    return Jackknife(value, error, freedom) if np.isfinite(value) and error > rounding else None
