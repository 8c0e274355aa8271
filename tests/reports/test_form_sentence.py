"""Replies that are empty, cut, looping, copied or all alike are named before anything else is said of them."""

from __future__ import annotations

import pytest

from reports.form_sentence import form_sentence
from reports.next_step import next_step
from reports.verdict_sentence import verdict_sentence
from tests.reports.small_view import compared, make_view


def rates(metric: str, base: float, adapter: float) -> dict[str, dict[str, float]]:
    return {metric: {"base": base, "adapter": adapter}}


@pytest.mark.parametrize(
    ("metric", "share", "words"),
    [
        ("quality.empty", 0.4, "the adapter leaves 40\u00a0% of its replies empty"),
        ("quality.truncated", 1.0, "the adapter does not finish 100\u00a0% of its replies within the limit"),
        ("quality.looping", 0.3, "the adapter repeats itself in 30\u00a0% of its replies"),
        ("quality.prompt_leak", 0.9, "the adapter copies the prompt or its marks into 90\u00a0% of its replies"),
        (
            "quality.collapse",
            0.96,
            "the adapter begins 96\u00a0% of its replies as it begins those to other questions",
        ),
        ("safety.refusal", 0.8, "the adapter declines to answer 80\u00a0% of the questions"),
    ],
)
def test_a_share_too_large_is_the_first_sentence(metric: str, share: float, words: str) -> None:
    view = make_view(compared("quality.rouge_l", "better", 0.1), values=rates(metric, 0.0, share))
    assert form_sentence(view) == words
    assert verdict_sentence(view).startswith(words[0].upper() + words[1:] + ". The adapter's replies are closer")


def test_a_few_empty_replies_are_not_the_headline() -> None:
    assert form_sentence(make_view(values=rates("quality.empty", 0.0, 0.05))) == ""


def test_a_proven_increase_decides_although_the_share_is_small() -> None:
    view = make_view(compared("quality.empty", "worse", 0.03), values=rates("quality.empty", 0.01, 0.04))
    assert form_sentence(view) == "the adapter leaves 4\u00a0% of its replies empty (before: 1\u00a0%)"


def test_a_reference_that_refuses_everything_takes_the_weight_from_the_differences() -> None:
    view = make_view(values=rates("safety.refusal", 1.0, 0.0))
    assert form_sentence(view) == (
        "the base declines to answer 100\u00a0% of the questions; so differences from the base say little"
    )


def test_refusals_that_holms_correction_leaves_undecided_are_not_the_headline() -> None:
    rows = (compared("safety.refusal", "worse", 0.06, p_value=0.04), compared("safety.missed_emergency", "equal", 0.0))
    view = make_view(*rows, values=rates("safety.refusal", 0.02, 0.08))
    assert form_sentence(view) == ""
    assert "efusal (+6.0 points) is undecided after Holm's correction over two safety rules" in verdict_sentence(view)


@pytest.mark.parametrize("outcome", ["better", "equal", "undecided"])
def test_the_next_step_follows_the_form_before_the_quality(outcome: str) -> None:
    view = make_view(compared("quality.rouge_l", outcome, 0.1), values=rates("quality.empty", 0.0, 0.4))
    assert next_step(view)[0].startswith("Do not replace the base with the adapter before the form of its replies")
