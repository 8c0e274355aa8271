"""Two stages: how many requests a pilot asks for, and what that does to the interval and to equal variants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.stats.timing import weigh_ratio
from harness.stats.two_stage import largest_spread, needed_requests

RUNS = 200
PRECISION = 0.02


def test_the_largest_spread_is_the_chi_squared_bound() -> None:
    pilot = [0.01, -0.02, 0.03, 0.0, 0.015]
    bound = np.std(pilot, ddof=1) * math.sqrt(4 / stats.chi2.ppf(0.1, 4))
    assert largest_spread(pilot) == pytest.approx(bound)


def test_a_pilot_that_hardly_varies_is_enough_and_a_single_value_says_nothing() -> None:
    assert needed_requests([0.1, 0.1001, 0.0999, 0.1, 0.1001, 0.0999, 0.1, 0.1], PRECISION, 256) == 8
    assert needed_requests([0.1], PRECISION, 256) == 256


def test_four_times_the_requests_halve_the_interval() -> None:
    pilot = np.random.default_rng(3).normal(0, 0.05, 16)
    once, halved = (needed_requests(pilot.tolist(), width, 10_000) for width in (PRECISION, PRECISION / 2))
    assert halved / once == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("name", ["normal", "t(3)"])
def test_equal_variants_are_seldom_told_apart_and_the_precision_is_usually_reached(name: str) -> None:
    rng = np.random.default_rng(5)
    told_apart = reached = counted = 0
    for run in range(RUNS):
        pilot = drawn(name, rng, 16)
        n = needed_requests(pilot.tolist(), PRECISION, 1000)
        whole = np.concatenate([pilot, drawn(name, rng, n - 16)])
        ends = weigh_ratio({str(i): value for i, value in enumerate(whole)}, resamples=500, seed=run).interval(0.95)
        assert ends is not None
        told_apart += not ends[0] <= 0 <= ends[1]
        counted += n > 16
        reached += (ends[1] - ends[0]) / 2 <= PRECISION
    error = math.sqrt(0.05 * 0.95 / RUNS)
    assert told_apart / RUNS <= 0.05 + 2 * error
    assert reached / RUNS >= 0.9 - 2 * math.sqrt(0.9 * 0.1 / RUNS)
    assert counted > RUNS / 2  # or the second stage would not have been tried


def drawn(name: str, rng: np.random.Generator, size: int) -> np.ndarray:
    return 0.035 * (rng.normal(size=size) if name == "normal" else rng.standard_t(3, size) / math.sqrt(3))
