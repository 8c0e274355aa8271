"""Rates: the exact interval of one, and the score interval of the paired difference of two.

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
    """The paired difference of two rates by the score interval of Tango (1998, Statistics in Medicine 17:891–908).

    ``gained``: units with 1 in the candidate alone; ``lost``: in the reference alone; ``n``: all pairs. The difference
    is candidate - reference. The interval holds the differences that the score test does not reject, so it has a width
    even if no unit changed.
    """

    gained: int
    lost: int
    n: int

    @property
    def value(self) -> float:
        return (self.gained - self.lost) / self.n

    @property
    def p_value(self) -> float:
        """The two-sided p-value of "there is no difference": McNemar's exact one, or the score test's if larger."""
        return max(mcnemar_exact(self.gained, self.lost), 2.0 * _NORMAL.cdf(-abs(self.score(0.0))))

    def score(self, difference: float) -> float:
        """Return Tango's statistic of "the true difference is this": standard normal if it is, falling with it.

        Tango (1998), equations 9 to 12: the distance from the observed difference over its standard error, with the
        share of units that are lost estimated under the hypothesis.
        """
        b = self.gained + self.lost - (2 * self.n - self.gained + self.lost) * difference
        root = math.sqrt(max(b * b + 8.0 * self.n * self.lost * difference * (1.0 - difference), 0.0))
        variance = (root + b) / (2.0 * self.n) + difference * (1.0 - difference)
        distance = self.value - difference
        if distance == 0.0:
            return 0.0
        return distance / math.sqrt(variance / self.n) if variance > 0.0 else math.copysign(math.inf, distance)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the two-sided interval: the score test's, reaching to 0 unless ``p_value`` excludes it."""
        low, high = self.score_interval(confidence)
        return (low, high) if self.p_value <= 1.0 - confidence else (min(low, 0.0), max(high, 0.0))

    def score_interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the differences that the score test alone does not reject."""
        critical = _NORMAL.inv_cdf(0.5 + confidence / 2.0)
        return self._end(-1.0, critical), self._end(1.0, critical)

    def _end(self, extreme: float, critical: float) -> float:
        """Return the difference between the value and ``extreme`` at which the score reaches the critical value."""
        inside, outside = self.value, extreme
        for _ in range(60):
            middle = (inside + outside) / 2.0
            if abs(self.score(middle)) < critical:
                inside = middle
            else:
                outside = middle
        return inside
