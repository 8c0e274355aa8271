"""How many requests a comparison of timings needs, from the spread in a first sample of it.

Two stages as in Stein (1945, "A two-sample test for a linear hypothesis whose power is independent of the variance"): a
pilot gives the spread, from it follows how many requests are timed in all. The pilot's own standard deviation would be
too small in half of the cases, so its upper confidence bound is used (Graybill 1958, "Determining sample size for a
specified width confidence interval"). The number depends on the spread alone, never on which side is faster, so looking
at the pilot does not make a difference between equal variants more likely.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.stats.power import critical_value, fewest_units
from harness.stats.timing import order_statistic_bounds

ASSURANCE = 0.9  # the share of comparisons that reach their precision, if the time for it is there
_MEDIAN = math.sqrt(math.pi / 2.0)  # standard error of a median against that of a mean, for a normal distribution


def largest_spread(pilot: Sequence[float]) -> float:
    """Return the upper confidence bound of the standard deviation; infinite for fewer than two values."""
    from scipy.special import chdtri

    if len(pilot) < 2:
        return math.inf
    free = len(pilot) - 1
    return float(np.std(pilot, ddof=1) * math.sqrt(free / chdtri(free, ASSURANCE)))


def needed_requests(pilot: Sequence[float], precision: float, most: int, confidence: float = 0.95) -> int:
    """Return how many requests give their median log ratio an interval of ± ``precision``; at most ``most``.

    ``pilot`` has the log ratios timed so far, one a request; they count. The interval is that of
    ``timing.weigh_ratio``: the wider of the bootstrap's and the order statistics'.
    """
    spread = largest_spread(pilot)
    for n in range(max(len(pilot), fewest_units(confidence)), most):
        if spread * _half_width(n, confidence) <= precision:
            return n
    return most


def _half_width(n: int, confidence: float) -> float:
    """Return the expected half-width of the interval of n normal values' median, in standard deviations.

    The expected place of the order statistic is Blom's (1958) approximation.
    """
    from scipy.special import ndtri

    _, high = order_statistic_bounds(n, 0.5, confidence)
    if high is None:
        return math.inf
    bound = float(ndtri((high + 1 - 0.375) / (n + 0.25)))
    return max(bound, critical_value(confidence) * _MEDIAN / math.sqrt(n))
