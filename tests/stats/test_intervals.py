from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from harness.stats.samples import from_statistics, from_values, ratio_of_sums
from harness.stats.types import Samples
from tests.stats.ask import estimate


def ids(n: int) -> list[str]:
    return [f"d{index:05}" for index in range(n)]


def mean_of(values: list[float | None]) -> Samples:
    return from_values(ids(len(values)), values)


def test_the_interval_of_a_mean_holds_scipys_bca_and_is_little_wider() -> None:
    values = np.random.default_rng(4).gamma(2.0, size=120)
    made = estimate(mean_of(list(values)), seed=9)
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=10_000, rng=np.random.default_rng(9), batch=1000)
    low, high = theirs.confidence_interval
    assert made.value == pytest.approx(values.mean())
    assert made.low is not None
    assert made.high is not None
    assert made.low < low < high < made.high
    assert made.high - made.low < 1.2 * (high - low)
    assert made.n == 120
    assert made.method == "BCa bootstrap, 10,000 resamples, not below t with 23.7 d.f."


def test_rate_has_clopper_pearsons_interval() -> None:
    made = estimate(from_values(ids(40), [1.0] * 3 + [0.0] * 37, kind="rate"))
    theirs = scipy.stats.binomtest(3, 40).proportion_ci(0.95, method="exact")
    assert made.value == 3 / 40
    assert (made.low, made.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


def test_a_rate_of_zero_still_has_an_upper_bound() -> None:
    made = estimate(from_values(ids(30), [0.0] * 30, kind="rate"))
    assert (made.low, made.high) == (0.0, pytest.approx(0.1157, abs=1e-4))


def test_a_rate_of_one_in_one_is_no_certainty() -> None:
    made = estimate(from_values(ids(1), [1.0], kind="rate"))
    assert (made.low, made.high) == (pytest.approx(0.025), 1.0)


@pytest.mark.parametrize("n", [2, 30, 1000])
def test_values_all_alike_have_no_interval(n: int) -> None:
    made = estimate(mean_of([0.1] * n))
    assert made.value == pytest.approx(0.1)
    assert (made.low, made.high) == (None, None)
    assert "identical" in made.warnings[0]


def test_nothing_measured_has_no_value() -> None:
    for samples in (mean_of([]), mean_of([None, None])):
        made = estimate(samples)
        assert (made.value, made.low, made.high, made.n) == (None, None, None, 0)
        assert made.warnings


def test_a_single_value_has_no_interval() -> None:
    made = estimate(mean_of([0.5]))
    assert (made.value, made.low, made.high, made.n) == (0.5, None, None, 1)
    assert made.warnings


@pytest.mark.parametrize(("n", "confidence", "shown"), [(5, 0.95, False), (6, 0.95, True), (7, 0.99, False)])
def test_fewer_units_than_could_show_anything_carry_no_interval(n: int, confidence: float, shown: bool) -> None:
    made = estimate(mean_of([float(index) for index in range(n)]), confidence=confidence)
    assert (made.low is not None) == shown
    assert bool(made.warnings) != shown


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_spoils_the_whole(bad: float) -> None:
    made = estimate(mean_of([0.5, 0.25, bad, *[0.75] * 50]))
    assert (made.value, made.low, made.high) == (None, None, None)
    assert "1 of 53" in made.warnings[0]


def test_an_aggregate_that_overflows_has_no_value() -> None:
    rows = [(900.0 + index, 1.0) for index in range(60)]
    made = estimate(from_statistics(ids(60), rows, lambda s: np.exp(ratio_of_sums(s)), columns=2))
    assert (made.value, made.low) == (None, None)


def test_undefined_units_leave_the_n_and_the_value() -> None:
    values: list[float | None] = [float(index % 7) for index in range(200)]
    values[::2] = [None] * 100
    made = estimate(mean_of(values))
    present = [value for value in values if value is not None]
    assert made.n == 100
    assert made.value == pytest.approx(np.mean(present))
    assert made.low is not None
    assert made.high is not None
    alone = estimate(mean_of([*present]))
    assert alone.low is not None
    assert alone.high is not None
    assert made.high - made.low == pytest.approx(alone.high - alone.low, rel=0.05)


def test_repeating_turns_of_a_conversation_adds_no_certainty() -> None:
    values = list(np.random.default_rng(0).normal(size=60))
    alone = estimate(mean_of(values))
    names = [f"c{index % 60}" for index in range(240)]
    thrice = estimate(from_values(ids(240), values * 4, clusters=names))
    assert thrice.n == 60
    assert thrice.value == pytest.approx(alone.value)
    assert thrice.low is not None
    assert thrice.high is not None
    assert alone.low is not None
    assert alone.high is not None
    assert thrice.high - thrice.low == pytest.approx(alone.high - alone.low, rel=0.05)
    assert "clustered" in thrice.method


def test_a_clustered_rate_is_as_wide_as_its_conversations_allow() -> None:
    flags = [1.0] * 12 + [0.0] * 48
    names = [f"c{index % 60}" for index in range(240)]
    clustered = estimate(from_values(ids(240), flags * 4, kind="rate", clusters=names))
    alone = estimate(from_values(ids(60), flags, kind="rate"))
    assert clustered.value == alone.value
    assert clustered.low == pytest.approx(alone.low, abs=0.005)
    assert clustered.high == pytest.approx(alone.high, abs=0.005)


def test_a_clustered_rate_of_zero_counts_conversations() -> None:
    names = [f"c{index % 30}" for index in range(120)]
    made = estimate(from_values(ids(120), [0.0] * 120, kind="rate", clusters=names))
    assert made.high == pytest.approx(0.1157, abs=1e-4)


def test_conversations_of_one_turn_are_no_clusters() -> None:
    values: list[float | None] = [float(index) for index in range(30)]
    assert estimate(from_values(ids(30), values, clusters=ids(30))) == estimate(mean_of(values))


def test_the_same_seed_gives_the_same_interval() -> None:
    samples = mean_of([float(index % 11) ** 3 for index in range(90)])
    assert estimate(samples, seed=3) == estimate(samples, seed=3)
    assert estimate(samples, seed=3).high != estimate(samples, seed=4).high


def test_a_higher_confidence_is_wider() -> None:
    samples = mean_of([float(index % 11) for index in range(90)])
    narrow, wide = estimate(samples, confidence=0.8), estimate(samples, confidence=0.99)
    assert wide.low is not None
    assert narrow.low is not None
    assert narrow.high is not None
    assert wide.high is not None
    assert wide.low < narrow.low < narrow.high < wide.high


def test_two_conversations_of_nearly_equal_rates_say_little_about_others() -> None:
    flags = [1.0] * 15 + [0.0] * 15 + [1.0] * 16 + [0.0] * 14
    names = ["a"] * 30 + ["b"] * 30
    made = estimate(from_values(ids(60), flags, kind="rate", clusters=names))
    assert (made.n, made.value) == (2, pytest.approx(31 / 60))
    assert (made.low or 0.0) < 0.05 < 0.95 < (made.high or 0.0)


def test_a_rate_over_few_conversations_misses_at_most_at_the_nominal_rate() -> None:
    generator = np.random.default_rng(5)
    names = [f"c{index // 20}" for index in range(100)]
    missed = 0
    for _ in range(300):
        chances = generator.beta(2.0, 4.0, 5)
        flags = (generator.random((5, 20)) < chances[:, None]).astype(float).ravel()
        made = estimate(from_values(ids(100), list(flags), kind="rate", clusters=names))
        missed += not (made.low or 0.0) <= 1 / 3 <= (made.high or 1.0)
    assert missed / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
