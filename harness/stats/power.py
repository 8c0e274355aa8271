"""The power of a comparison: its minimum detectable effect, and how many units would decide it.

Normal approximation from the standard error of the paired difference, at 80 % power: a loss of twice the effect is
missed in at most 0.1 % of the simulations of docs/statistics.md.
"""

from __future__ import annotations

import math
from statistics import NormalDist

POWER = 0.8
_NORMAL = NormalDist()
_MOST_UNITS = 10**9


def critical_value(confidence: float) -> float:
    """Return z(1 - α/2), the half-width of the two-sided interval in standard errors."""
    return _NORMAL.inv_cdf(0.5 + confidence / 2.0)


def critical_sum(confidence: float) -> float:
    """Return z(1 - α/2) + z(0.8), the effect in standard errors that is detected with 80 % power."""
    return critical_value(confidence) + _NORMAL.inv_cdf(POWER)


def minimum_detectable_effect(standard_error: float, *, confidence: float = 0.95) -> float:
    """Return the smallest true difference for which the two-sided interval excludes zero with 80 % power."""
    return critical_sum(confidence) * standard_error


def needed_n(value: float, margin: float, standard_error: float, n: int, *, confidence: float = 0.95) -> int | None:
    """Return how many units would show which side of ``margin`` the value is on, if it is truly as observed.

    With that many, the two-sided interval excludes the margin with 80 % power. Always more than ``n``. None if no
    number would: the value is on the margin, nothing varies, or more than a billion units are needed.
    """
    distance = abs(value - margin)
    if n < 1 or not distance > 0.0 or not standard_error > 0.0 or not math.isfinite(distance * standard_error):
        return None
    ratio = critical_sum(confidence) * standard_error / distance
    if ratio > 1e6:
        return None
    needed = max(n + 1, math.ceil(n * ratio * ratio))
    return needed if needed <= _MOST_UNITS else None


def fewest_units(confidence: float) -> int:
    """Return the smallest number of units that supports an interval at this confidence: 6 at 95 %.

    With fewer, chance alone puts all differences on one side of zero in more than 1 - confidence of all cases
    (2·½ⁿ), so no distribution-free interval can be trusted.
    """
    return math.ceil(1.0 + math.log2(1.0 / (1.0 - confidence)) - 1e-9)
