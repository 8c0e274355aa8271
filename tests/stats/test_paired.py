from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from harness.stats.proportions import PairedRates
from harness.stats.samples import from_statistics, from_values, ratio_of_sums
from harness.stats.types import FloatArray, Samples
from tests.stats.ask import difference, weighed


def ids(n: int) -> list[str]:
    return [f"d{index:05}" for index in range(n)]


def mean_of(values: FloatArray | list[float | None]) -> Samples:
    return from_values(ids(len(values)), list(values))


def rate_of(values: list[float]) -> Samples:
    return from_values(ids(len(values)), list(values), kind="rate")


def pair(n: int = 200, shift: float = 0.1, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    generator = np.random.default_rng(seed)
    reference = generator.normal(size=n)
    return reference + generator.normal(shift, 0.5, n), reference


def test_plain_bca_of_a_difference_of_means_equals_scipys_of_the_differences() -> None:
    candidate, reference = pair()
    made = weighed(mean_of(candidate), mean_of(reference), seed=11)
    theirs = scipy.stats.bootstrap(
        (candidate - reference,), np.mean, n_resamples=10_000, rng=np.random.default_rng(11), batch=1000
    ).confidence_interval
    assert made.value == pytest.approx((candidate - reference).mean())
    assert made.bootstrap is not None
    plain = replace(made.bootstrap, freedom=None)
    assert plain.interval(0.95) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


def test_swapping_the_variants_flips_the_signs() -> None:
    candidate, reference = pair(shift=0.2)
    there = difference(mean_of(candidate), mean_of(reference), higher_is_better=True)
    back = difference(mean_of(reference), mean_of(candidate), higher_is_better=True)
    assert there.value == pytest.approx(-(back.value or 0.0))
    assert there.low == pytest.approx(-(back.high or 0.0))
    assert (there.wins, there.losses) == (back.losses, back.wins)
    assert (there.outcome, back.outcome) == ("better", "worse")
    assert there.mde == pytest.approx(back.mde)


def test_a_variant_against_itself_is_equal_within_what_so_many_units_can_show() -> None:
    values, _ = pair()
    made = difference(mean_of(values), mean_of(values))
    reach = scipy.stats.binomtest(0, 200).proportion_ci(0.95).high * np.ptp(values)
    assert (made.value, made.outcome) == (0.0, "equal")
    assert (made.low, made.high) == (pytest.approx(-reach), pytest.approx(reach))
    assert (made.wins, made.ties, made.losses) == (0, 200, 0)
    assert "None of the 200 dialogues differ" in made.warnings[0]
    assert made.p_value == 1.0


def test_what_was_compared_is_called_by_its_name() -> None:
    candidate, reference = pair(n=48)
    alone = difference(mean_of(candidate), mean_of(reference))
    assert alone.warnings[0].startswith("Only 48 dialogues were compared")
    pairs = [f"c{index // 2}" for index in range(48)]
    one, other = (from_values(ids(48), list(values), clusters=pairs) for values in (candidate, reference))
    assert difference(one, other).warnings[0].startswith("Only 24 conversations were compared")
    kept = weighed(one, other, unit="requests").difference()
    assert kept.warnings[0].startswith("Only 24 batches were compared")


def test_a_few_units_without_any_difference_are_not_called_equal() -> None:
    values, _ = pair(n=49)
    made = difference(mean_of(values), mean_of(values))
    assert (made.value, made.outcome) == (0.0, "undecided")
    assert made.low == pytest.approx(-(made.high or 0.0))


@pytest.mark.parametrize("values", [[0.1] * 60, [0.0] * 60])
def test_where_no_value_ever_varies_nothing_says_by_how_much_others_may(values: list[float | None]) -> None:
    made = difference(mean_of(values), mean_of(values))
    assert (made.value, made.low, made.high, made.outcome) == (0.0, None, None, "equal")


@pytest.mark.parametrize(("differing", "decided"), [(5, False), (9, True), (40, True)])
def test_how_many_units_differ_decides_what_can_be_shown(differing: int, decided: bool) -> None:
    reference, _ = pair(n=1000)
    candidate = reference + np.where(np.arange(1000) < differing, 0.5, 0.0)
    made = difference(mean_of(candidate), mean_of(reference), higher_is_better=True)
    assert (made.outcome == "better") == decided
    assert made.p_value is not None
    assert (made.p_value < 0.05) == decided
    if not decided:
        reach = scipy.stats.binomtest(differing, 1000).proportion_ci(0.95).high
        span = max(candidate.max(), reference.max()) - min(candidate.min(), reference.min())
        assert made.high == pytest.approx(reach * span)
        assert "Only 5 of the 1000 dialogues differ: fewer than 6 decide nothing" in made.warnings[0]


def test_a_single_large_difference_among_equals_decides_nothing() -> None:
    # The t interval alone would end at 0.05; that six units differ only says that more may.
    candidate = np.where(np.arange(200) < 7, 0.001, 0.0)
    candidate[0] = 1.0
    made = difference(mean_of(candidate), mean_of(np.zeros(200)), higher_is_better=True)
    assert made.outcome == "undecided"


def test_differences_all_alike_but_not_zero_carry_no_interval() -> None:
    values, _ = pair()
    made = difference(mean_of(np.round(values, 2) + 1.0), mean_of(np.round(values, 2)), higher_is_better=True)
    assert made.value == pytest.approx(1.0)
    assert (made.low, made.high, made.outcome) == (None, None, "undecided")
    assert "identical" in made.warnings[0]


@pytest.mark.parametrize(("better", "outcome"), [(True, "better"), (False, "worse"), (None, "different")])
def test_the_outcome_takes_its_direction_from_the_metric(better: bool | None, outcome: str) -> None:
    candidate, reference = pair(shift=0.5)
    assert difference(mean_of(candidate), mean_of(reference), higher_is_better=better).outcome == outcome


def test_wins_are_counted_in_the_metrics_direction() -> None:
    candidate, reference = [3.0, 1.0, 1.0, 0.5], [2.0, 1.0, 0.0, 0.9]
    up = difference(mean_of(list(candidate)), mean_of(list(reference)), higher_is_better=True)
    down = difference(mean_of(list(candidate)), mean_of(list(reference)), higher_is_better=False)
    assert (up.wins, up.ties, up.losses) == (2, 1, 1)
    assert (down.wins, down.ties, down.losses) == (1, 1, 2)


def test_only_units_that_both_have_are_compared() -> None:
    candidate, reference = pair(n=100)
    shuffled = from_values(ids(100)[::-1], list(reference[::-1]))
    partly = from_values([*ids(60), "other"], [*candidate[:60], 99.0])
    made = difference(partly, shuffled)
    assert made.n == 60
    assert made.value == pytest.approx((candidate[:60] - reference[:60]).mean())


def test_units_undefined_in_one_leave_the_comparison() -> None:
    candidate, reference = pair(n=100)
    with_gaps: list[float | None] = list(candidate)
    with_gaps[10:30] = [None] * 20
    made = difference(mean_of(with_gaps), mean_of(reference))
    kept = np.r_[0:10, 30:100]
    assert made.n == 80
    assert made.value == pytest.approx((candidate[kept] - reference[kept]).mean())


def test_the_order_of_units_does_not_matter() -> None:
    candidate, reference = pair(n=100)
    order = np.random.default_rng(5).permutation(100)
    names = [ids(100)[index] for index in order]
    moved = difference(from_values(names, list(candidate[order])), mean_of(reference))
    straight = difference(mean_of(candidate), mean_of(reference))
    assert (moved.value, moved.low, moved.high) == pytest.approx((straight.value, straight.low, straight.high))


def test_no_common_unit_has_no_value() -> None:
    made = difference(from_values(["a"], [1.0]), from_values(["b"], [1.0]))
    assert (made.value, made.low, made.n, made.outcome) == (None, None, 0, "undecided")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_spoils_the_comparison(bad: float) -> None:
    candidate, reference = pair(n=100)
    candidate[3] = bad
    made = difference(mean_of(candidate), mean_of(reference))
    assert (made.value, made.low, made.outcome) == (None, None, "undecided")


@pytest.mark.parametrize("n", [1, 2, 5])
def test_tiny_comparisons_decide_nothing(n: int) -> None:
    made = difference(mean_of([5.0 + i for i in range(n)]), mean_of([0.0] * n), higher_is_better=True)
    assert (made.low, made.high, made.outcome) == (None, None, "undecided")
    assert any("Only" in warning for warning in made.warnings)


@pytest.mark.parametrize(("n", "warned"), [(49, True), (50, False)])
def test_fewer_than_fifty_units_carry_a_warning(n: int, warned: bool) -> None:
    candidate, reference = pair(n=n)
    made = difference(mean_of(candidate), mean_of(reference))
    assert any("Only 49 dialogues" in warning for warning in made.warnings) == warned
    assert made.low is not None


def test_three_of_three_dialogues_decide_nothing() -> None:
    made = difference(rate_of([1.0] * 3), rate_of([0.0] * 3), higher_is_better=False)
    assert (made.value, made.outcome, made.p_value) == (1.0, "undecided", 0.25)
    assert made.low is not None
    assert made.low <= 0.0


@pytest.mark.parametrize("n", [3, 4, 5, 6, 8, 10, 20, 50])
def test_a_rate_is_decided_exactly_where_mcnemar_rejects(n: int) -> None:
    for gained in range(n + 1):
        for lost in range(n + 1 - gained):
            same = n - gained - lost
            made = difference(
                rate_of([1.0] * gained + [0.0] * (lost + same)), rate_of([0.0] * gained + [1.0] * lost + [0.0] * same)
            )
            exact = scipy.stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
            assert (made.outcome in ("undecided", "equal")) == (exact > 0.05)
            assert (made.p_value or 0.0) >= exact - 1e-12


def test_rates_have_tangos_interval_and_mcnemars_p() -> None:
    # 100 pairs: both 50, gained 20, lost 8, neither 22.
    candidate = [1.0] * 50 + [1.0] * 20 + [0.0] * 8 + [0.0] * 22
    reference = [1.0] * 50 + [0.0] * 20 + [1.0] * 8 + [0.0] * 22
    made = difference(rate_of(candidate), rate_of(reference), higher_is_better=True)
    assert made.value == pytest.approx(0.12)
    assert (made.low, made.high) == PairedRates(20, 8, 100).score_interval()
    assert made.p_value == pytest.approx(scipy.stats.binomtest(8, 28).pvalue)
    assert made.outcome == "better"


def test_rates_that_never_differ_are_equal_but_not_certain() -> None:
    made = difference(rate_of([0.0] * 100), rate_of([0.0] * 100))
    assert (made.value, made.outcome, made.p_value) == (0.0, "equal", 1.0)
    assert made.low is not None
    assert made.high is not None
    assert made.low < -0.036 < 0.036 < made.high  # the warning's 3.6 % of unseen units
    assert "Up to 3.6 % of unseen dialogues may differ" in made.warnings[0]


def test_undecided_says_how_many_units_would_decide() -> None:
    candidate, reference = pair(n=100, shift=0.02, seed=0)
    made = difference(mean_of(candidate), mean_of(reference))
    assert made.outcome == "undecided"
    assert made.needed_n is not None
    assert made.mde is not None
    assert made.needed_n == pytest.approx(100 * (made.mde / abs(made.value or 0.0)) ** 2, abs=1.0)


def test_a_decided_comparison_needs_no_more_units() -> None:
    candidate, reference = pair(shift=0.5)
    assert difference(mean_of(candidate), mean_of(reference)).needed_n is None


def test_corpus_metrics_are_compared_by_their_sums() -> None:
    generator = np.random.default_rng(0)
    tokens = generator.integers(20, 80, 150).astype(float)
    reference = tokens * generator.gamma(9.0, 0.2, 150)
    candidate = reference * 0.97

    def perplexity(sums: FloatArray) -> FloatArray:
        return np.asarray(np.exp(ratio_of_sums(sums)))

    def samples(nll: FloatArray) -> Samples:
        return from_statistics(ids(150), list(zip(nll, tokens, strict=True)), perplexity, columns=2)

    made = difference(samples(candidate), samples(reference), higher_is_better=False)
    expected = np.exp(candidate.sum() / tokens.sum()) - np.exp(reference.sum() / tokens.sum())
    assert made.value == pytest.approx(expected)
    assert made.outcome == "better"
    assert (made.wins, made.losses) == (150, 0)


def test_turns_of_a_conversation_are_compared_together() -> None:
    candidate, reference = pair(n=60)
    names = [f"c{index % 60}" for index in range(240)]
    alone = difference(mean_of(candidate), mean_of(reference))
    tiled = difference(
        from_values(ids(240), list(np.tile(candidate, 4)), clusters=names),
        from_values(ids(240), list(np.tile(reference, 4)), clusters=names),
    )
    assert tiled.n == 60
    assert tiled.mde == pytest.approx(alone.mde, rel=0.05)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99, 0.9999])
def test_p_agrees_with_the_interval(confidence: float) -> None:
    candidate, reference = pair()
    made = difference(mean_of(candidate), mean_of(reference), confidence=confidence)
    assert made.p_value is not None
    assert (made.p_value < 1 - confidence) == (made.outcome != "undecided")


def test_different_metrics_are_refused() -> None:
    with pytest.raises(ValueError, match="same metric"):
        difference(mean_of([1.0]), rate_of([1.0]))


def test_a_factor_scales_the_reference_and_its_uncertainty() -> None:
    candidate, reference = (mean_of(values + 5.0) for values in pair())
    evidence = weighed(candidate, reference, factor=0.9)
    plain = difference(candidate, mean_of(reference.statistics[:, 0] * 0.9))
    made = evidence.difference()
    assert (made.value, made.low, made.high) == pytest.approx((plain.value, plain.low, plain.high))


def test_a_variant_is_above_a_share_of_itself() -> None:
    values = mean_of(pair()[0] + 5.0)
    made = weighed(values, values, factor=0.9).difference(0.95, higher_is_better=True)
    assert made.outcome == "better"
    assert made.value == pytest.approx(0.1 * values.statistics[:, 0].mean())


def test_rates_against_a_share_of_another() -> None:
    made = weighed(rate_of([1.0] * 90 + [0.0] * 10), rate_of([1.0] * 100), factor=0.7).difference()
    assert made.value == pytest.approx(0.2)
    assert made.outcome == "different"


@pytest.mark.parametrize("shift", [0.001, 1e-6])
def test_the_rounding_of_a_constant_difference_is_no_spread(shift: float) -> None:
    reference = np.random.default_rng(0).normal(3.0, 1.0, 300)
    made = difference(mean_of(reference + shift), mean_of(reference), higher_is_better=True)
    assert made.value == pytest.approx(shift)
    assert (made.low, made.high, made.outcome) == (None, None, "undecided")


@pytest.mark.parametrize("others", [None, [f"x{(7 * index) % 30}" for index in range(60)]])
def test_conversations_that_only_one_run_knows_of_keep_the_pairs_together(others: list[str] | None) -> None:
    candidate, reference = pair(n=60)
    names = [f"c{index // 2}" for index in range(60)]
    grouped = from_values(ids(60), list(candidate), clusters=names)
    agreed = difference(grouped, from_values(ids(60), list(reference), clusters=names))
    made = difference(grouped, from_values(ids(60), list(reference), clusters=others))
    assert made.n == 30
    assert (made.low, made.high) == (agreed.low, agreed.high)


def test_conversations_that_only_the_reference_knows_of_are_kept() -> None:
    candidate, reference = pair(n=60)
    grouped = from_values(ids(60), list(reference), clusters=[f"c{index // 2}" for index in range(60)])
    assert difference(mean_of(candidate), grouped).n == 30
