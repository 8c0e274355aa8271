"""The one rule, on evidence written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.gating.evidence import Evidence, Interval, OneDialogue, Share
from harness.gating.judge import judge, units_needed
from harness.gating.policy import Policy
from harness.gating.verdict import CheckResult, overall


def policy(*checks: dict[str, Any], **defaults: Any) -> Policy:
    named = [{"id": f"c{i}", "metric": "quality.rouge_l", **check} for i, check in enumerate(checks)]
    return Policy.model_validate({"version": 1, "candidate": "adapter", "defaults": defaults, "checks": named})


def evidence(value: float | None, low: float | None, high: float | None, **more: Any) -> Evidence:
    facts: dict[str, Any] = {"metric": "quality.rouge_l", "candidate": "adapter", "higher_is_better": True, "n": 200}
    confidence = more.pop("confidence", 0.95)
    return Evidence(**{**facts, "value": value, "interval": Interval(low, high, confidence), **more})


def one(check: dict[str, Any], found: Evidence, **defaults: Any) -> CheckResult:
    return judge(policy(check, **defaults), {"c0": found})[0]


AGAINST = {"against": {"variant": "base"}}


@pytest.mark.parametrize(
    ("check", "interval", "verdict"),
    [
        ({"min": 0.3}, (0.30, 0.36), "pass"),
        ({"min": 0.3}, (0.29, 0.36), "inconclusive"),
        ({"min": 0.4}, (0.30, 0.36), "fail"),
        ({"min": 0.36}, (0.30, 0.36), "inconclusive"),
        ({"max": 0.36}, (0.30, 0.36), "pass"),
        ({"max": 0.35}, (0.30, 0.36), "inconclusive"),
        ({"max": 0.2}, (0.30, 0.36), "fail"),
    ],
)
def test_min_and_max_hold_the_bounds_against_the_limit(
    check: dict[str, Any], interval: tuple[float, float], verdict: str
) -> None:
    assert one(check, evidence(0.33, *interval)).verdict == verdict


@pytest.mark.parametrize(
    ("higher_is_better", "interval", "verdict"),
    [
        (True, (-0.02, 0.01), "pass"),
        (True, (-0.021, 0.01), "inconclusive"),
        (True, (-0.05, -0.021), "fail"),
        (False, (-0.05, 0.02), "pass"),
        (False, (-0.05, 0.021), "inconclusive"),
        (False, (0.021, 0.05), "fail"),
    ],
)
def test_non_inferiority_takes_its_direction_from_the_metric(
    higher_is_better: bool, interval: tuple[float, float], verdict: str
) -> None:
    found = evidence(
        sum(interval) / 2, *interval, higher_is_better=higher_is_better, scale="difference", against="base"
    )
    assert one({"non_inferiority": {"margin": 0.02}, **AGAINST}, found).verdict == verdict


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((1.0, 1.1), "pass"), ((1.05, 1.15), "inconclusive"), ((1.12, 1.15), "fail"), ((0.8, 0.9), "pass")],
)
def test_a_ratio_of_timings_may_rise_by_the_relative_margin(interval: tuple[float, float], verdict: str) -> None:
    found = evidence(sum(interval) / 2, *interval, higher_is_better=False, scale="ratio", against="base")
    result = one({"non_inferiority": {"margin_relative": 0.1001}, **AGAINST}, found)
    assert result.verdict == verdict
    assert result.requirement.startswith("ratio ≤ 1.1")


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((-0.01, 0.01), "pass"),
        ((-0.01, 0.03), "inconclusive"),
        ((-0.03, 0.01), "inconclusive"),
        ((0.021, 0.03), "fail"),
        ((-0.03, -0.021), "fail"),
    ],
)
def test_equivalence_asks_for_both_sides(interval: tuple[float, float], verdict: str) -> None:
    found = evidence(sum(interval) / 2, *interval, scale="difference", against="base", higher_is_better=None)
    assert one({"equivalence": {"margin": 0.02}, **AGAINST}, found).verdict == verdict


def regression(value: float, low: float, high: float, *upper: float, **more: Any) -> Evidence:
    steps = tuple(Interval(low, end, 1 - 0.05 / (k + 2)) for k, end in enumerate(upper))
    return evidence(value, low, high, scale="difference", against="base", steps=steps, **more)


NO_LOSS = {"no_regression": {"max_drop": 0.0}, **AGAINST}


def test_no_regression_fails_only_where_the_loss_is_proven() -> None:
    assert one(NO_LOSS, regression(-0.03, -0.05, -0.01)).verdict == "fail"
    undecided = one(NO_LOSS, regression(-0.03, -0.07, 0.01))
    assert undecided.verdict == "pass"
    assert undecided.smallest_loss == pytest.approx(0.04 / 1.959964 * (1.959964 + 0.841621), rel=1e-5)
    assert "would be detected with 80 % power" in undecided.sentence


def test_holm_lets_a_loss_pass_that_alone_would_have_been_proven() -> None:
    weak, none = regression(-0.03, -0.05, -0.01, 0.001), regression(0.01, -0.02, 0.04)
    alone = judge(policy(NO_LOSS), {"c0": weak})
    both = judge(policy(NO_LOSS, NO_LOSS), {"c0": weak, "c1": none})
    assert [check.verdict for check in alone] == ["fail"]
    assert [check.verdict for check in both] == ["pass", "pass"]
    assert (both[0].holm_checks, both[0].holm_high) == (2, 0.001)


def test_holm_steps_down_once_the_clearest_loss_is_proven() -> None:
    clear, weak = regression(-0.5, -0.6, -0.4, -0.39), regression(-0.03, -0.05, -0.01, 0.001)
    results = judge(policy(NO_LOSS, NO_LOSS), {"c0": clear, "c1": weak})
    assert [check.verdict for check in results] == ["fail", "fail"]


def test_a_check_that_cannot_be_made_is_not_counted_by_holm() -> None:
    weak, broken = regression(-0.03, -0.05, -0.01, 0.001), evidence(None, None, None, n=0)
    results = judge(policy(NO_LOSS, NO_LOSS), {"c0": weak, "c1": broken})
    assert [check.verdict for check in results] == ["fail", "error"]


def test_a_shared_loss_is_shown_with_the_power_that_holm_leaves() -> None:
    calm = regression(0.0, -0.02, 0.02, mde=0.0286)
    alone = judge(policy(NO_LOSS), {"c0": calm})[0].smallest_loss
    among_five = judge(policy(*[NO_LOSS] * 5), {f"c{i}": calm for i in range(5)})[0].smallest_loss
    assert alone == pytest.approx(0.0286)
    assert among_five == pytest.approx(0.0286 * (2.575829 + 0.841621) / (1.959964 + 0.841621), rel=1e-5)


def test_a_loss_that_holm_has_no_interval_for_is_not_let_pass() -> None:
    few = evidence(-0.03, -0.05, -0.01, n=8, scale="difference", against="base", steps=(Interval(None, None, 0.975),))
    calm = regression(0.01, -0.02, 0.04, n=8)
    results = judge(policy(NO_LOSS, NO_LOSS, min_samples=5), {"c0": few, "c1": calm})
    assert [check.verdict for check in results] == ["inconclusive", "pass"]
    assert "but with 8 dialogues there is no interval that could prove it among 2 checks" in results[0].sentence
    assert results[0].needed_n == 9


def test_so_few_units_that_no_loss_could_be_proven_promise_nothing() -> None:
    calm = regression(0.0, -0.02, 0.02, n=6, mde=0.03)
    alone, among_two = (
        judge(policy(*[NO_LOSS] * checks, min_samples=5), {f"c{i}": calm for i in range(checks)})[0]
        for checks in (1, 2)
    )
    assert alone.smallest_loss == pytest.approx(0.03)
    assert among_two.smallest_loss is None
    assert "80 times" not in among_two.sentence


def test_the_smallest_loss_of_a_relative_limit_holds_the_share_that_is_allowed() -> None:
    check = {"no_regression": {"max_relative_increase": 0.1}, **AGAINST}
    found = evidence(0.5, 0.4, 0.6, scale="difference", against="base", scaled_other=0.9, other_value=5.0, mde=0.03)
    assert one(check, found).smallest_loss == pytest.approx(0.53)


def test_the_range_of_a_few_repeats_promises_no_power() -> None:
    found = evidence(-1.0, -2.0, 0.0, n=2, single=True, scale="difference", against="base")
    result = one({"no_regression": {"max_drop": 40.0}, **AGAINST}, found)
    assert (result.verdict, result.smallest_loss) == ("pass", None)
    assert "80 times" not in result.sentence


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (evidence(None, None, None, n=0), "Nothing was measured"),
        (evidence(None, None, None, n=7), "Nothing was measured"),
        (evidence(float("nan"), 0.1, 0.2), "not a finite number"),
        (evidence(0.3, 0.1, float("inf")), "not a finite number"),
        (evidence(0.3, 0.1, 0.2, problem="It was not measured."), "It was not measured."),
        (evidence(0.9, 0.8, 1.0, coverage=(Share("adapter", 90, 100),)), "answered 90 of 100"),
        (evidence(0.9, 0.8, 1.0, coverage=(Share("adapter", 100, 100), Share("base", 0, 0))), "base answered 0 of 0"),
    ],
)
def test_what_cannot_be_judged_is_an_error(found: Evidence, said: str) -> None:
    result = one({"min": 0.1}, found)
    assert result.verdict == "error"
    assert said in result.sentence


def test_a_check_without_evidence_is_an_error() -> None:
    assert judge(policy({"min": 0.1}), {})[0].verdict == "error"


def test_too_few_samples_are_inconclusive_however_clear_the_value() -> None:
    result = one({"min": 0.1}, evidence(0.9, 0.8, 1.0, n=99))
    assert (result.verdict, result.needed_n) == ("inconclusive", 100)
    assert one({"min": 0.1, "min_samples": 99}, evidence(0.9, 0.8, 1.0, n=99)).verdict == "pass"
    assert one({"min": 0.1}, evidence(0.9, 0.8, 1.0, n=99), min_samples=10).verdict == "pass"


def test_what_is_measured_once_needs_no_hundred_samples() -> None:
    assert one({"max": 500.0}, evidence(300, 299, 301, n=2, single=True)).verdict == "pass"


def test_no_interval_is_no_pass() -> None:
    assert one({"min": 0.1}, evidence(0.9, None, None)).verdict == "inconclusive"
    assert one(NO_LOSS, evidence(0.9, None, None, scale="difference", against="base")).verdict == "inconclusive"


def test_one_bound_suffices_where_it_decides() -> None:
    assert one({"min": 0.1}, evidence(0.9, 0.8, None)).verdict == "pass"
    assert one({"max": 0.1}, evidence(0.9, 0.8, None)).verdict == "fail"


def test_judging_the_point_ignores_the_interval() -> None:
    assert one({"min": 0.3, "judge": "point"}, evidence(0.3, 0.1, 0.5)).verdict == "pass"
    assert one({"min": 0.3, "judge": "point"}, evidence(0.29, None, None)).verdict == "fail"
    lost = evidence(-0.01, -0.2, 0.2, scale="difference", against="base")
    assert one({**NO_LOSS, "judge": "point"}, lost).verdict == "fail"


def test_a_dialogue_that_must_pass_fails_the_check_by_itself() -> None:
    found = evidence(0.9, 0.8, 1.0, must_pass=(OneDialogue("a", 0.9), OneDialogue("b", 0.2)))
    result = one({"min": 0.5, "must_pass": ["a", "b"]}, found)
    assert (result.verdict, result.must_pass_failed) == ("fail", ("b",))
    missing = replace(found, must_pass=(OneDialogue("a", 0.9), OneDialogue("b", None)))
    result = one({"min": 0.5, "must_pass": ["a", "b"]}, missing)
    assert (result.verdict, result.must_pass_missing) == ("error", ("b",))


def test_a_dialogue_that_must_pass_is_turned_as_its_metric_is() -> None:
    worse = evidence(
        0.0, -0.01, 0.01, higher_is_better=False, scale="difference", must_pass=(OneDialogue("a", 0.3),), against="base"
    )
    assert one({"non_inferiority": {"margin": 0.2}, **AGAINST, "must_pass": ["a"]}, worse).verdict == "fail"


def test_a_limit_against_the_metrics_direction_is_pointed_out() -> None:
    assert "higher is better" in one({"max": 0.9}, evidence(0.3, 0.2, 0.4)).warnings[0]
    assert one({"min": 0.1}, evidence(0.3, 0.2, 0.4)).warnings == ()


def test_units_needed_follow_from_the_square_of_the_width() -> None:
    assert units_needed(100, 0.32, 0.28, 0.36, 0.30, None) == 400
    assert units_needed(100, 0.28, 0.24, 0.32, 0.30, None) == 400
    assert units_needed(100, 0.30, 0.24, 0.32, 0.30, None) is None
    assert units_needed(100, 0.0, -0.04, 0.04, -0.02, 0.02) == 400
    assert units_needed(100, 0.03, -0.01, 0.07, -0.02, 0.02) == 1600


def result(verdict: str, severity: str = "fail") -> CheckResult:
    found = one({"min": 0.1}, evidence(0.9, 0.8, 1.0))
    return found.model_copy(update={"verdict": verdict, "severity": severity})


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["pass", "pass"], "pass"),
        (["pass", "inconclusive"], "inconclusive"),
        (["error", "inconclusive"], "error"),
        (["error", "fail", "inconclusive"], "fail"),
        ([], "error"),
    ],
)
def test_the_worst_verdict_counts(verdicts: list[str], expected: str) -> None:
    assert overall(tuple(result(verdict) for verdict in verdicts), ()) == expected


def test_a_warning_does_not_count_unless_it_could_not_be_judged() -> None:
    assert overall((result("pass"), result("fail", "warn"), result("inconclusive", "warn")), ()) == "pass"
    assert overall((result("pass"), result("error", "warn")), ()) == "error"


def test_a_problem_of_the_run_is_an_error_whatever_the_checks_say() -> None:
    assert overall((result("pass"),), ("edited",)) == "error"
