from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
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


def restricted(rates: PairedRates, difference: float) -> float:
    """Return the score statistic with the restricted maximum of the likelihood found numerically."""
    others = rates.n - rates.gained - rates.lost

    def cost(lost: float) -> float:
        cells = (lost + difference, lost, 1.0 - 2.0 * lost - difference)
        counts = (rates.gained, rates.lost, others)
        return -sum(n * math.log(max(share, 1e-300)) for n, share in zip(counts, cells, strict=True) if n)

    edges = max(0.0, -difference), (1.0 - difference) / 2.0
    found = scipy.optimize.minimize_scalar(cost, bounds=edges, method="bounded", options={"xatol": 1e-12})
    lost = min((*edges, found.x), key=cost)
    variance = (2.0 * lost + difference - difference**2) / rates.n
    return (rates.value - difference) / math.sqrt(variance)


@pytest.mark.parametrize(
    ("gained", "lost", "n"), [(9, 4, 60), (0, 1, 44), (0, 0, 30), (7, 0, 40), (43, 0, 44), (1, 7, 21), (300, 250, 900)]
)
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_tangos_interval_ends_where_the_score_test_of_the_restricted_likelihood_rejects(
    gained: int, lost: int, n: int, confidence: float
) -> None:
    rates = PairedRates(gained, lost, n)
    critical = scipy.stats.norm.ppf(0.5 + confidence / 2)
    low, high = rates.score_interval(confidence)
    expected = (
        scipy.optimize.brentq(lambda d: restricted(rates, d) - critical, -1 + 1e-9, rates.value - 1e-9),
        scipy.optimize.brentq(lambda d: restricted(rates, d) + critical, rates.value + 1e-9, 1 - 1e-9),
    )
    assert (low, high) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("gained", "lost", "n", "published"),
    [
        (1, 7, 21, (-0.517, -0.026)),  # Fagerland, Lydersen & Laake 2014, Statistics in Medicine 33:2850
        (0, 1, 44, (-0.118, 0.059)),  # Tango 1998, the example of soft contact lenses
    ],
)
def test_tangos_interval_equals_published_ones(gained: int, lost: int, n: int, published: tuple[float, float]) -> None:
    assert PairedRates(gained, lost, n).score_interval() == pytest.approx(published, abs=6e-4)


def test_where_no_unit_changes_the_interval_is_wilsons_of_none() -> None:
    z = 1.959963984540054
    low, high = PairedRates(0, 0, 98).interval(0.95)
    assert (low, high) == pytest.approx((-z * z / (98 + z * z), z * z / (98 + z * z)), abs=1e-9)


@pytest.mark.parametrize(("gained", "lost", "n"), [(1, 0, 1), (50, 0, 50), (0, 1, 1)])
def test_the_interval_stays_between_minus_one_and_one(gained: int, lost: int, n: int) -> None:
    low, high = PairedRates(gained, lost, n).interval(0.99)
    assert -1.0 <= low <= high <= 1.0


def test_a_score_that_rejects_what_mcnemar_does_not_leaves_zero_in_the_interval() -> None:
    rates = PairedRates(4, 0, 50)
    assert rates.score_interval()[0] > 0.0
    assert (rates.interval()[0], rates.p_value) == (0.0, 0.125)


@pytest.mark.parametrize("gained", [0, 1, 3, 12])
def test_swapping_the_sides_turns_the_interval_round(gained: int) -> None:
    low, high = PairedRates(gained, 5, 40).interval()
    assert PairedRates(5, gained, 40).interval() == pytest.approx((-high, -low))


@pytest.mark.parametrize(("margin", "n"), [(0.02, 100), (0.01, 200), (0.05, 100), (0.05, 50), (0.02, 1000)])
def test_losses_alone_exactly_at_the_margin_pass_in_at_most_one_of_forty(margin: float, n: int) -> None:
    passes = [PairedRates(0, lost, n).interval()[0] >= -margin for lost in range(n + 1)]
    chance = scipy.stats.binom.pmf(np.arange(n + 1), n, margin)
    assert float(chance[passes].sum()) <= 0.025
