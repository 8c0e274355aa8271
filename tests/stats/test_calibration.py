"""Error rates where the truth is known: a small part of ``benchmarks.calibration``, the table of docs/statistics.md.

Seeds are fixed, so a rate outside its bounds is a change of the statistics.
"""

from __future__ import annotations

import pytest

from benchmarks.calibration import (
    DECIDES,
    EQUIVALENT,
    LIMITS,
    MARGIN,
    MISSES,
    Rate,
    compare,
    pages,
    quantiles,
    rates,
    timings,
    value,
)
from benchmarks.calibration_draws import EQUAL, LOSSES, SINGLE, Case


def named(cases: tuple[Case, ...], name: str) -> Case:
    return next(case for case in cases if case.name == name)


@pytest.mark.parametrize("n", [10, 20, 200])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in EQUAL if "BLEU" not in case.name])
def test_equal_variants_are_seldom_told_apart(case: Case, n: int) -> None:
    for found in compare(case, n, 300, resamples=1000):
        assert found.holds, found


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in LOSSES])
@pytest.mark.parametrize("n", [50, 200])
def test_losses_exactly_at_the_margin_seldom_pass(case: Case, n: int) -> None:
    at_margin, equivalent, misses = compare(case, n, 300, resamples=1000)
    assert (at_margin.question, equivalent.question, misses.question) == (MARGIN, EQUIVALENT, MISSES)
    # Held also where the gate, left to its defaults, would not judge at all.
    assert all(Rate("", n, "", one.errors, 300, LIMITS[one.question]).holds for one in (at_margin, equivalent, misses))


def test_corpus_bleu_of_equal_variants_is_seldom_told_apart() -> None:
    assert compare(named(EQUAL, "corpus BLEU"), 50, 200, resamples=1000)[0].holds


@pytest.mark.parametrize("name", ["normal", "exponential", "t(3)", "5 % differ, normal"])
def test_holding_the_rate_does_not_mean_deciding_nothing(name: str) -> None:
    (decides, *_) = compare(named(EQUAL, name), 1000, 300, resamples=1000)
    assert decides.question == DECIDES
    assert decides.share >= 0.01


@pytest.mark.parametrize("n", [10, 200])
@pytest.mark.parametrize("name", SINGLE)
def test_the_interval_of_one_mean_holds_it(name: str, n: int) -> None:
    assert value(name, n, 300, resamples=1000).holds


@pytest.mark.parametrize("n", [20, 50, 200])
@pytest.mark.parametrize("truth", [0.02, 0.3])
def test_clopper_pearson_misses_at_most_at_the_nominal_rate(truth: float, n: int) -> None:
    assert rates(truth, n, 4000).share <= 0.05 + 0.01


@pytest.mark.parametrize(("quantile", "n"), [(0.5, 16), (0.95, 72), (0.95, 200)])
def test_order_statistics_miss_at_most_at_the_nominal_rate(quantile: float, n: int) -> None:
    assert quantiles(quantile, n, 1500).share <= 0.05 + 0.017


@pytest.mark.parametrize(("quantile", "n"), [(0.5, 16), (0.99, 400)])
def test_quantiles_of_gaps_resampled_by_request_cover(quantile: float, n: int) -> None:
    assert quantiles(quantile, n, 60, gaps=10).holds


@pytest.mark.parametrize("n", [16, 50])
def test_equal_variants_under_drift_differ_at_most_at_the_nominal_rate(n: int) -> None:
    assert timings(n, 400).holds


def test_a_slowdown_of_ten_percent_is_found_under_drift() -> None:
    assert timings(16, 200, slowdown=1.1).share <= 0.02


def test_without_interleaving_drift_would_be_taken_for_a_difference() -> None:
    assert timings(16, 50, interleaved=False).share > 0.5


def test_a_rate_above_its_limit_does_not_hold() -> None:
    assert Rate("normal", 50, DECIDES, 90, 1000, 0.07).holds
    assert not Rate("normal", 50, DECIDES, 100, 1000, 0.07).holds


def test_the_tables_put_the_sizes_of_a_row_side_by_side() -> None:
    found = [Rate("normal", n, DECIDES, n, 1000, 0.07) for n in (10, 20)]
    text = pages({"equal": found, "losses": [], "values": [Rate("rate", 10, MISSES, 5, 100, None)], "drift": []}, 1000)
    assert "| normal | 1.0 / 2.0 | – | – |" in text
    assert "| rate | 10 | 5.0 % |" in text
