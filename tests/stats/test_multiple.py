from __future__ import annotations

import pytest
import scipy.stats

from harness.stats.multiple import benjamini_hochberg, holm


def test_benjamini_hochberg_equals_scipys() -> None:
    p_values = [0.01, 0.8, 0.04, 0.03, 0.005, 0.3]
    assert benjamini_hochberg(p_values) == pytest.approx(tuple(scipy.stats.false_discovery_control(p_values)))


def test_holm_multiplies_step_by_step_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))


def test_adjusted_values_stay_at_most_one() -> None:
    assert holm([0.9, 0.8]) == (1.0, 1.0)


def test_missing_p_values_stay_missing_and_are_not_counted() -> None:
    assert holm([None, 0.02, None, 0.03]) == (None, pytest.approx(0.04), None, pytest.approx(0.04))


def test_nothing_to_adjust() -> None:
    assert holm([]) == ()
    assert benjamini_hochberg([None]) == (None,)


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([float("nan")])
