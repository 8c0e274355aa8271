from __future__ import annotations

import pytest
import scipy.stats

from harness.stats.proportions import PairedRates, clopper_pearson, mcnemar_exact


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (1, 7), (50, 1000), (999, 1000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_clopper_pearson_equals_scipys(successes: int, n: int, confidence: float) -> None:
    theirs = scipy.stats.binomtest(successes, n).proportion_ci(confidence, method="exact")
    assert clopper_pearson(successes, n, confidence) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_what_is_no_rate_is_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="not a rate"):
        clopper_pearson(successes, n)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (6, 6), (12, 3), (3, 12)])
def test_mcnemar_is_the_binomial_test_of_the_units_that_changed(gained: int, lost: int) -> None:
    expected = scipy.stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar_exact(gained, lost) == pytest.approx(expected)


def test_agresti_min_is_near_walds_interval_on_a_large_table() -> None:
    # Approval asked twice of 1600 people (Agresti, Categorical Data Analysis): 150 turned away and 86 came round,
    # a difference of 0.04 with a standard error of 0.0095. Half an observation more a cell moves it little.
    rates = PairedRates(both=794, gained=150, lost=86, n=1600)
    assert rates.value == pytest.approx(0.04)
    assert rates.standard_error == pytest.approx(0.0095, abs=1e-4)
    assert rates.interval(0.95) == pytest.approx((0.0213, 0.0587), abs=5e-4)


def test_no_change_at_all_still_leaves_a_width() -> None:
    low, high = PairedRates(both=40, gained=0, lost=0, n=98).interval(0.95)
    assert (low, high) == pytest.approx((-0.0196, 0.0196), abs=1e-4)


def test_the_interval_stays_between_minus_one_and_one() -> None:
    assert PairedRates(both=0, gained=1, lost=0, n=1).interval(0.99)[1] == 1.0


@pytest.mark.parametrize(("gained", "lost"), [(9, 4), (4, 9)])
def test_at_the_confidence_that_p_leaves_the_interval_ends_at_zero(gained: int, lost: int) -> None:
    rates = PairedRates(both=20, gained=gained, lost=lost, n=60)
    assert min(map(abs, rates.interval(1 - rates.p_value))) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("both", [0, 20, 40])
def test_units_that_agree_do_not_matter_to_a_plain_difference(both: int) -> None:
    assert PairedRates(both, 9, 4, 60).interval() == pytest.approx(PairedRates(0, 9, 4, 60).interval())


def test_against_a_multiple_of_the_reference_the_units_that_agree_matter() -> None:
    rates = PairedRates(both=40, gained=10, lost=6, n=100, factor=1.1)
    assert rates.value == pytest.approx(0.5 - 1.1 * 0.46)
    assert rates.standard_error > PairedRates(40, 10, 6, 100).standard_error
