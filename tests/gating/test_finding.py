"""What a check found, as a reader is told: the change, its interval and what is allowed, each once."""

from __future__ import annotations

from typing import Any

import pytest

from harness.gating.evidence import Evidence, Interval, Share
from harness.gating.judge import judge
from harness.gating.policy import Policy

AGAINST = {"against": {"variant": "base"}}


def sentence(rule: dict[str, Any], value: float | None, low: float | None, high: float | None, **facts: Any) -> str:
    """Return the sentence of one check on ROUGE-L, judged from these numbers."""
    policy = Policy.model_validate(
        {"version": 1, "candidate": "adapter", "checks": [{"id": "c", "metric": "quality.rouge_l", **rule}]}
    )
    known: dict[str, Any] = {"label": "ROUGE-L", "unit": "F1", "higher_is_better": True, "n": 200, "against": "base"}
    found = Evidence("quality.rouge_l", "adapter", value=value, interval=Interval(low, high, 0.95), **known | facts)
    return judge(policy, {"c": found})[0].sentence


def changed(before: float, after: float) -> dict[str, Any]:
    return {"scale": "difference", "other_value": before, "candidate_value": after}


NLL = {"label": "nll", "unit": "nats/token", "higher_is_better": False}
RATE = {"label": "Unsupported medication", "unit": "share of dialogues", "higher_is_better": False}
TIME = {"label": "Time per output token p50", "unit": "ms", "higher_is_better": False, "scale": "ratio"}


def test_a_loss_is_told_with_its_interval_and_what_is_allowed_each_once() -> None:
    told = sentence(
        {"non_inferiority": {"margin": 0.013}, **AGAINST}, -0.3213, -0.3344, -0.3046, **changed(0.6112, 0.2899)
    )
    assert told == "ROUGE-L fell from 0.61 to 0.29 (−0.32, 95 % −0.33 to −0.30); at most −0.013 is allowed."


@pytest.mark.parametrize(
    ("rule", "value", "facts", "allowed"),
    [
        ({"max": -0.05, **AGAINST}, -0.02, {**NLL, **changed(3.0, 2.98)}, "a fall of at least 0.05 is required"),
        ({"max": 0.05, **AGAINST}, 0.2, {**NLL, **changed(3.0, 3.2)}, "at most +0.05 is allowed"),
        ({"min": 0.02, **AGAINST}, -0.02, changed(0.3, 0.28), "a rise of at least 0.02 is required"),
        ({"no_regression": {"max_drop": 0.0}, **AGAINST}, -0.1, changed(0.3, 0.2), "no fall is allowed"),
        ({"no_regression": {"max_drop": 0.0}, **AGAINST}, 0.1, {**NLL, **changed(3.0, 3.1)}, "no rise is allowed"),
        ({"equivalence": {"margin": 0.02}, **AGAINST}, 0.1, changed(0.3, 0.4), "between −0.02 and +0.02 is allowed"),
        ({"min": 0.85}, 0.5, {}, "at least 0.85 is required"),
        ({"max": 0.1}, 0.5, RATE, "at most 10 % is allowed"),
        ({"max": 0.02, **AGAINST}, 0.3, {**RATE, **changed(0.1, 0.4)}, "at most +2 points is allowed"),
    ],
)
def test_what_is_allowed_is_told_in_the_direction_of_the_change(
    rule: dict[str, Any], value: float, facts: dict[str, Any], allowed: str
) -> None:
    assert sentence(rule, value, value - 0.01, value + 0.01, **facts).rstrip(".").endswith(f"; {allowed}")


def test_shares_are_told_in_percent_and_their_differences_in_points() -> None:
    rule = {"no_regression": {"max_drop": 0.02}, **AGAINST}
    assert sentence(rule, 0.49, 0.44, 0.54, **RATE, **changed(0.5, 0.99)) == (
        "Unsupported medication rose from 50 to 99 % (+49 points, 95 % +44 to +54); at most +2 points is allowed."
    )


def test_timings_are_told_as_a_ratio_beside_their_values() -> None:
    rule = {"no_regression": {"max_relative_increase": 0.1}, **AGAINST}
    assert sentence(rule, 1.31352, 1.3130, 1.3138, other_value=5.07, candidate_value=6.67, **TIME) == (
        "Time per output token p50 rose from 5.07 to 6.67 ms (1.31 ×, 95 % 1.31 to 1.31); at most 1.1 × is allowed."
    )


def test_a_relative_margin_shows_the_number_that_was_judged() -> None:
    rule = {"non_inferiority": {"margin_relative": 0.1}, **AGAINST}
    told = sentence(rule, -0.26, -0.28, -0.24, **changed(0.61, 0.29), scaled_other=0.9)
    assert told == (
        "ROUGE-L fell from 0.610 to 0.290 (adapter − 0.9 × base: −0.26, 95 % −0.28 to −0.24); "
        "at least 0.9 × base's is required."
    )


def test_rounding_never_puts_an_end_of_the_interval_on_the_limit() -> None:
    assert "95 % 0.301 to 0.499" in sentence({"min": 0.3}, 0.4, 0.3012, 0.4988)


def test_values_of_other_dialogues_than_the_difference_are_not_told_as_a_rise() -> None:
    told = sentence({"non_inferiority": {"margin": 0.01}, **AGAINST}, -0.05, -0.07, -0.03, **changed(0.27, 0.30))
    assert told.startswith("ROUGE-L changed over the dialogues that both have (−0.05, 95 % −0.07 to −0.03)")


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (
            Share("adapter", 15, 24, missing={"too long": 9}, context=1024),
            "adapter answered 15 of 24 dialogues (62.5 %), and 99 % is required: 9 are longer than the context of "
            "1,024 tokens. To judge it, set dialogues.too_long: cut-left or a smaller generation.max_new_tokens, "
            "or set min_coverage: 0.62 knowingly.",
        ),
        (
            Share("adapter", 0, 24, missing={"too long": 24}),
            "adapter answered 0 of 24 dialogues (0 %), and 99 % is required: 24 are longer than the model's context. "
            "To judge it, set dialogues.too_long: cut-left or a smaller generation.max_new_tokens.",
        ),
    ],
)
def test_a_variant_that_answered_too_few_says_why_and_what_to_do(missing: Share, told: str) -> None:
    assert sentence({"min": 0.3}, 0.4, 0.35, 0.45, coverage=(missing,)) == told


def test_too_few_dialogues_say_what_to_set() -> None:
    assert sentence({"min": 0.3}, 0.4, 0.35, 0.45, n=12) == (
        "Only 12 dialogues were measured, and 100 are required: measure more, or set min_samples: 12 knowingly."
    )
