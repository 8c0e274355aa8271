"""The page's first line where the gate and the replies disagree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.store.schema import ComparisonRow, Coverage
from reports.decision import decide
from reports.next_step import next_step
from reports.verdict_sentence import verdict_sentence
from reports.view import RunView
from tests.reports.small_view import checked, compared, gated, make_view

EMPTY = {"quality.empty": {"base": 0.0, "adapter": 1.0}}


def test_a_gate_that_passes_does_not_ship_replies_whose_fault_no_check_sees() -> None:
    decided = decide(make_view(values=EMPTY, gate=gated("pass", checked("pass"))))
    reason = "the gate passes, but the adapter leaves 100\u00a0% of its replies empty, which no check sees"
    assert (decided.word, decided.reason) == ("Not yet", reason)


def test_a_fault_that_a_check_allows_is_the_gates_to_decide() -> None:
    judged = checked("pass", metric="quality.empty")
    assert decide(make_view(values=EMPTY, gate=gated("pass", judged))).word == "Ship"


BETTER = compared("quality.rouge_l", "better", 0.5, n=10)


def few_answered(few: str, **facts: Any) -> RunView:
    view = make_view(BETTER, **facts)
    coverage = {**view.summary.coverage, few: Coverage(dialogues=120, answered=10)}
    return replace(view, summary=view.summary.model_copy(update={"coverage": coverage}))


@pytest.mark.parametrize(("few", "more"), [("adapter", "base"), ("base", "adapter")])
def test_the_numbers_of_a_few_dialogues_speak_for_nobody(few: str, more: str) -> None:
    decided = decide(few_answered(few))
    assert decided.word == "No gate"
    assert decided.reason.startswith(f"the {few} answered only 10 dialogues where the {more} answered 120, so this")


def test_a_missing_dialogue_in_a_hundred_changes_nothing() -> None:
    view = make_view(BETTER)
    coverage = {**view.summary.coverage, "adapter": Coverage(dialogues=120, answered=119)}
    decided = decide(replace(view, summary=view.summary.model_copy(update={"coverage": coverage})))
    assert decided.reason.startswith("the numbers speak for the adapter")


def test_what_ships_with_few_replies_is_said_to_have_few() -> None:
    decided = decide(few_answered("adapter", gate=gated("pass", checked("pass"))))
    assert decided.word == "Ship"
    assert decided.reason.endswith("though the adapter answered only 10 dialogues where the base answered 120")


def test_what_was_not_measured_is_not_said_to_be_undistinguishable() -> None:
    nothing = ComparisonRow(
        metric="quality.rouge_l", variant="adapter", against="base", value=None, low=None, high=None, n=0,
        outcome="undecided",
    )  # fmt: skip
    view = make_view(nothing)
    assert decide(view).reason == "whether the adapter is better than the base was not measured"
    assert next_step(view) == ()
    assert "undecided" not in verdict_sentence(view)


def test_counts_are_written_with_separators_and_in_the_right_number() -> None:
    many = gated("inconclusive", checked("inconclusive", n=19901))
    assert decide(make_view(gate=many)).reason.endswith("is undecided with 19,901 dialogues")
    one = gated("inconclusive", checked("inconclusive", n=1))
    assert decide(make_view(gate=one)).reason.endswith("is undecided with 1 dialogue")
