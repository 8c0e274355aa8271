from __future__ import annotations

import pytest
import scipy.stats

from harness.stats.multiple import benjamini_hochberg


def test_benjamini_hochberg_equals_scipys() -> None:
    p_values = [0.01, 0.8, 0.04, 0.03, 0.005, 0.3]
    assert benjamini_hochberg(p_values) == pytest.approx(tuple(scipy.stats.false_discovery_control(p_values)))


def test_adjusted_values_stay_at_most_one() -> None:
    assert benjamini_hochberg([0.9, 1.0]) == (1.0, 1.0)


def test_missing_p_values_stay_missing_and_are_not_counted() -> None:
    assert benjamini_hochberg([None, 0.02, None, 0.03]) == (None, pytest.approx(0.03), None, pytest.approx(0.03))


def test_nothing_to_adjust() -> None:
    assert benjamini_hochberg([]) == ()
    assert benjamini_hochberg([None]) == (None,)


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        benjamini_hochberg([float("nan")])
