"""Rates: exact intervals for one, and for the paired difference of two.

Their error rates, which stay at or below nominal within simulation noise, are in the tables of docs/statistics.md.

scipy.special is imported lazily: loading it takes longer than a whole gate without rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL = NormalDist()


def clopper_pearson(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact binomial interval of successes/n (Clopper & Pearson 1934).

    Neither has to be an integer: clustering is handled by an effective n below the number of units.
    Raises ValueError unless 0 <= successes <= n and n > 0.
    """
    if not (n > 0 and 0 <= successes <= n):
        raise ValueError(f"{successes} of {n} is not a rate")
    from scipy.special import betaincinv

    tail = (1.0 - confidence) / 2.0
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1.0 - tail))
    return low, high


def mcnemar_exact(gained: int, lost: int) -> float:
    """Return the two-sided exact p-value of "gains and losses are equally likely" (McNemar 1947, binomial form)."""
    from scipy.special import bdtr

    changed = gained + lost
    if changed == 0:
        return 1.0
    return min(1.0, 2.0 * float(bdtr(min(gained, lost), changed, 0.5)))


@dataclass(frozen=True)
class PairedRates:
    """The paired difference of two rates by Agresti & Min (2005): Wald after adding ½ to each of the four cells.

    ``both``: units with 1 in candidate and reference; ``gained``: in the candidate alone; ``lost``: in the reference
    alone; ``n``: all pairs. The difference is candidate - ``factor``·reference; ``both`` cancels only if the factor is
    1. The standard error is positive even if no unit changed.
    """

    both: int
    gained: int
    lost: int
    n: int
    factor: float = 1.0

    @property
    def value(self) -> float:
        """The plain difference of the rates."""
        return self._difference(0.0)[0]

    @property
    def centre(self) -> float:
        """The shrunken difference in the middle of the interval."""
        return self._difference(0.5)[0]

    @property
    def standard_error(self) -> float:
        return math.sqrt(self._difference(0.5)[1])

    def _difference(self, added: float) -> tuple[float, float]:
        """Return the difference and its variance with ``added`` observations in each cell."""
        n = self.n + 4.0 * added
        both = (self.both + added) / n
        mine = both + (self.gained + added) / n
        theirs = both + (self.lost + added) / n
        shared = both - mine * theirs
        variance = mine * (1.0 - mine) + self.factor**2 * theirs * (1.0 - theirs) - 2.0 * self.factor * shared
        return mine - self.factor * theirs, max(variance, 0.0) / n

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the two-sided interval, clipped to the possible range."""
        half = _NORMAL.inv_cdf(0.5 + confidence / 2.0) * self.standard_error
        return max(-self.factor, self.centre - half), min(1.0, self.centre + half)

    @property
    def p_value(self) -> float:
        """The two-sided p-value of "there is no difference", by inverting the interval."""
        return 2.0 * _NORMAL.cdf(-abs(self.centre) / self.standard_error)
