"""A difference from two intervals alone."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from harness.stats.unpaired import difference_of_intervals


def wilson(successes: int, n: int) -> tuple[float, float, float]:
    interval = binomtest(successes, n).proportion_ci(method="wilson")
    return successes / n, interval.low, interval.high


@pytest.mark.parametrize(
    ("one", "other", "interval"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
    ],
)
def test_it_gives_newcombes_published_intervals(
    one: tuple[int, int], other: tuple[int, int], interval: tuple[float, float]
) -> None:
    """Statistics in Medicine 17 (1998), page 879, table II, method 10."""
    difference, low, high = difference_of_intervals(*wilson(*one), *wilson(*other))
    assert difference == pytest.approx(one[0] / one[1] - other[0] / other[1])
    assert (low, high) == pytest.approx(interval, abs=5e-5)
