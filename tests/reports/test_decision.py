"""The page's first line where the gate and the replies disagree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.store.schema import Coverage
from reports.decision import decide
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
