from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from harness.stats.bootstrap import Bootstrap, Resamples, bca, degrees_of_freedom, percentile
from harness.stats.samples import ratio_of_sums
from harness.stats.types import FloatArray


def distribution(values: FloatArray, resamples: int = 2000, seed: int = 7) -> Bootstrap:
    statistics = np.column_stack([values, np.ones_like(values)])
    made = bca(statistics, ratio_of_sums, Resamples(values.size, resamples=resamples, seed=seed).sums(statistics))
    assert made is not None
    return made


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [7, 40, 500])
def test_plain_bca_equals_scipys_on_the_same_resamples(n: int, confidence: float) -> None:
    # Multiples of 1/1024 have exact sums, so that neither side takes a resample of all units for another value.
    values = np.round(np.random.default_rng(1).lognormal(size=n) * 1024) / 1024
    mine = replace(distribution(values), freedom=None).interval(confidence)
    theirs = scipy.stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=2000,
        confidence_level=confidence,
        method="BCa",
        rng=np.random.default_rng(7),
    ).confidence_interval
    assert mine == pytest.approx((theirs.low, theirs.high), rel=1e-9)


def test_plain_bca_of_a_corpus_ratio_equals_scipys_paired_bootstrap() -> None:
    generator = np.random.default_rng(3)
    tokens = generator.integers(5, 90, 60).astype(float)
    nll = tokens * generator.gamma(4.0, 0.5, 60)
    statistics = np.column_stack([nll, tokens])
    mine = bca(statistics, lambda s: np.exp(ratio_of_sums(s)), Resamples(60, resamples=1500, seed=5).sums(statistics))
    assert mine is not None
    theirs = scipy.stats.bootstrap(
        (nll, tokens),
        lambda a, b, axis: np.exp(a.sum(axis=axis) / b.sum(axis=axis)),
        paired=True,
        vectorized=True,
        n_resamples=1500,
        method="BCa",
        rng=np.random.default_rng(5),
    ).confidence_interval
    assert replace(mine, freedom=None).interval(0.95) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


@pytest.mark.parametrize("draw", ["normal", "lognormal", "few"])
@pytest.mark.parametrize("n", [12, 150])
def test_the_interval_is_the_wider_of_bca_and_t_at_students_critical_value(n: int, draw: str) -> None:
    generator = np.random.default_rng(n)
    values = np.round((generator.normal(size=n) if draw == "normal" else generator.lognormal(size=n)) * 1024) / 1024
    if draw == "few":
        values[: n // 2] = 0.0
    freedom = n / max(5.0, 2.0 * (scipy.stats.kurtosis(values, fisher=False) - 1.0))
    critical = scipy.stats.t.ppf(0.975, freedom)
    theirs = scipy.stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=2000,
        confidence_level=2 * scipy.stats.norm.cdf(critical) - 1,
        rng=np.random.default_rng(7),
    ).confidence_interval
    half = critical * scipy.stats.sem(values)
    expected = min(theirs.low, values.mean() - half), max(theirs.high, values.mean() + half)
    made = distribution(values)
    assert made.freedom == pytest.approx(freedom)
    assert made.interval(0.95) == pytest.approx(expected, rel=1e-6)


def test_equal_differences_count_as_half_a_degree_each() -> None:
    # Twenty of 1,000 units differ by 1: their kurtosis is about 1,000/20.
    pull = np.where(np.arange(1000) < 20, 1.0, 0.0)
    assert degrees_of_freedom(pull - pull.mean()) == pytest.approx(10.0, rel=0.1)


def test_each_resample_draws_as_many_units_as_there_are() -> None:
    counts = np.concatenate(list(Resamples(37, resamples=500).blocks()))
    assert counts.shape == (500, 37)
    assert (counts.sum(axis=1) == 37).all()


def test_the_draws_do_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = np.random.default_rng(0).normal(size=(101, 3))
    whole = Resamples(101, resamples=333).sums(statistics)
    monkeypatch.setattr("harness.stats.bootstrap._INDICES_PER_BLOCK", 101 * 7)
    monkeypatch.setattr("harness.stats.bootstrap._CELLS_PER_PRODUCT", 101 * 5)
    monkeypatch.setattr("harness.stats.bootstrap._KEEP_BYTES", 0)
    assert np.allclose(Resamples(101, resamples=333).sums(statistics), whole, rtol=1e-12)


def test_another_seed_draws_other_resamples() -> None:
    statistics = np.arange(20.0)[:, None]
    assert not np.array_equal(Resamples(20, seed=1).sums(statistics), Resamples(20, seed=2).sums(statistics))


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_p_at_either_end_of_an_interval_is_half_of_what_the_interval_leaves_out(confidence: float) -> None:
    made = distribution(np.random.default_rng(2).exponential(size=80))
    low, high = made.interval(confidence)
    assert made.p_below(low) == pytest.approx((1 - confidence) / 2, rel=1e-6)
    assert made.p_above(high) == pytest.approx((1 - confidence) / 2, rel=1e-6)


def test_p_grows_with_the_margin_and_never_claims_more_than_the_resamples_can_show() -> None:
    made = distribution(np.random.default_rng(2).exponential(size=80))
    margins = np.linspace(0.0, 3.0, 50)
    p_values = [made.p_below(float(margin)) for margin in margins]
    assert p_values == sorted(p_values)
    assert p_values[0] == pytest.approx(1 / 2001)
    assert p_values[-1] == 1.0


def test_equal_values_have_no_bootstrap_distribution() -> None:
    statistics = np.column_stack([np.full(30, 0.1), np.ones(30)])
    assert bca(statistics, ratio_of_sums, Resamples(30).sums(statistics)) is None


def test_where_bca_does_not_exist_the_percentile_interval_stands_in_and_says_so() -> None:
    # The largest of the units: no resample exceeds it.
    statistics = np.arange(10.0)[:, None]
    sums = np.sort(np.random.default_rng(0).uniform(0, 44, (400, 1)), axis=0)
    made = bca(statistics, lambda s: s[..., 0], sums)
    assert made is not None
    assert "BCa does not exist" in made.method
    assert replace(made, freedom=None).interval(0.9) == pytest.approx(tuple(np.quantile(sums[:, 0], [0.05, 0.95])))


def test_resamples_without_any_defined_unit_are_left_out() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    statistics = np.zeros((40, 2))
    statistics[:6] = np.column_stack([values, np.ones(6)])
    made = bca(statistics, ratio_of_sums, Resamples(40).sums(statistics))
    assert made is not None
    assert made.value == pytest.approx(10.5)
    assert np.isfinite(made.draws).all()
    assert made.draws.size < 10_000


def test_percentile_bootstrap_of_sorted_draws() -> None:
    made = percentile(0.0, np.arange(101.0)[::-1], "percentile")
    assert made.interval(0.9) == pytest.approx((5.0, 95.0))


def test_resamples_refuse_statistics_of_another_number_of_units() -> None:
    with pytest.raises(ValueError, match="statistics of 3 units"):
        Resamples(4).sums(np.zeros((3, 1)))
