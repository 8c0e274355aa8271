"""What a comparison could have shown: minimum detectable effect, and how many units would decide it.

Normal approximation from the standard error of the paired difference, at 80 % power: a loss of twice the effect is
missed in at most 0.1 % of the simulations of docs/statistics.md.
"""

from __future__ import annotations

import math
from statistics import NormalDist

POWER = 0.8
_NORMAL = NormalDist()
_NO_NUMBER_WOULD = 10**9


def critical_value(confidence: float) -> float:
    """Return z(1 - α/2): how many standard errors the two-sided interval reaches to either side."""
    return _NORMAL.inv_cdf(0.5 + confidence / 2.0)


def critical_sum(confidence: float) -> float:
    """Return z(1 - α/2) + z(0.8): how many standard errors away an effect must lie to be found 80 times in 100."""
    return critical_value(confidence) + _NORMAL.inv_cdf(POWER)


def minimum_detectable_effect(standard_error: float, *, confidence: float = 0.95) -> float:
    """Return the smallest true difference that the two-sided interval excludes zero for with 80 % power."""
    return critical_sum(confidence) * standard_error


def needed_n(value: float, margin: float, standard_error: float, n: int, *, confidence: float = 0.95) -> int | None:
    """Return how many units would decide on which side of ``margin`` the value lies, were it truly as observed.

    With that many, the two-sided interval excludes the margin with 80 % power. Always more than ``n``. None where no
    number would: the value lies on the margin, nothing varies, or it would take over a thousand million.
    """
    distance = abs(value - margin)
    if n < 1 or not distance > 0.0 or not standard_error > 0.0 or not math.isfinite(distance * standard_error):
        return None
    ratio = critical_sum(confidence) * standard_error / distance
    if ratio > 1e6:
        return None
    needed = max(n + 1, math.ceil(n * ratio * ratio))
    return needed if needed <= _NO_NUMBER_WOULD else None


def fewest_units(confidence: float) -> int:
    """Return the fewest units that can show anything at this confidence.

    With fewer, chance alone puts all differences on one side of zero in more than 1 - confidence of all cases
    (2·½ⁿ), so no interval that ignores the shape of the data can be trusted: 6 at 95 %.
    """
    return math.ceil(1.0 + math.log2(1.0 / (1.0 - confidence)) - 1e-9)
