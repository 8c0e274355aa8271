from __future__ import annotations

import numpy as np
import pytest

from harness.stats.family import holm


def test_holms_adjusted_values_are_those_of_a_worked_example() -> None:
    # Holm's procedure over .01, .04, .03, .005: 4 x .005, 3 x .01, 2 x .03, and .04 raised to the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))


def test_none_is_above_one_and_nothing_has_none() -> None:
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()


def test_of_equal_systems_any_of_nine_rules_is_called_worse_in_at_most_one_of_twenty() -> None:
    p_values = np.random.default_rng(0).uniform(size=(4000, 9))
    assert np.mean([min(holm(list(row))) <= 0.05 for row in p_values]) <= 0.06
    assert (p_values.min(axis=1) <= 0.05).mean() > 0.3  # without the correction
