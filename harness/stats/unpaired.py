"""The difference of two values of which only the intervals are known."""

from __future__ import annotations

import math


def difference_of_intervals(
    value: float, low: float, high: float, other: float, other_low: float, other_high: float
) -> tuple[float, float, float]:
    """Return ``value`` - ``other`` with the ends of its interval, at the confidence that the two intervals have.

    The distances from each value to the ends of its interval are added in squares (MOVER, Zou and Donner 2008; for two
    proportions with Wilson's intervals it is Newcombe's method 10). It takes the two as independent; over the same
    dialogues they vary together, and the interval is wider than that of a paired difference.
    """
    difference = value - other
    below = math.hypot(value - low, other_high - other)
    above = math.hypot(high - value, other - other_low)
    return difference, difference - below, difference + above
