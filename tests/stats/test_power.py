from __future__ import annotations

import math

import pytest

from harness.stats.power import fewest_units, minimum_detectable_effect, needed_n


def test_mde_is_2_8_standard_errors() -> None:
    assert minimum_detectable_effect(0.01) == pytest.approx(0.01 * (1.959964 + 0.841621), rel=1e-6)


def test_with_the_needed_n_the_value_observed_is_the_mde() -> None:
    needed = needed_n(0.02, 0.0, 0.01, 100)
    assert needed is not None
    assert minimum_detectable_effect(0.01 * math.sqrt(100 / needed)) == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize(
    ("value", "margin", "error", "n"),
    [(0.1, 0.1, 0.01, 50), (0.2, 0.1, 0.0, 50), (0.2, 0.1, 0.1, 0), (math.nan, 0.0, 0.1, 9), (1e-9, 0.0, 1.0, 9)],
)
def test_where_no_number_would_decide_there_is_none(value: float, margin: float, error: float, n: int) -> None:
    assert needed_n(value, margin, error, n) is None


def test_more_units_are_needed_than_there_are() -> None:
    assert needed_n(5.0, 0.0, 0.1, 50) == 51


@pytest.mark.parametrize(("confidence", "fewest"), [(0.5, 2), (0.9, 5), (0.95, 6), (0.99, 8)])
def test_fewest_units(confidence: float, fewest: int) -> None:
    assert fewest_units(confidence) == fewest
