"""The rules on labelled pairs: each pair by itself, and the precision and recall that the rules state."""

from __future__ import annotations

from functools import cache

import pytest

from benchmarks.rule_accuracy import FILES, Outcome, accuracy, measure
from harness.metrics.loading import all_specs

WRONG = {  # known, and counted
    "The itching will stop with cream.",
    "I had a seizure in 2010 but none since.",
    "I take metformin for diabetes.",
    "A week.",
    "That question is one for your gastroenterologist, not for me.",
    "Your leg swelling and breathlessness point to the heart.",
    "Sorry, I can only answer general questions, not medical ones.",
}
GOAL_PRECISION, GOAL_RECALL = 0.9, 0.8


@cache
def outcomes() -> list[Outcome]:
    return measure(FILES)


PAIRS = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in FILES)


@pytest.mark.parametrize("number", range(PAIRS))
def test_a_labelled_pair_is_flagged_or_not(number: int) -> None:
    one = outcomes()[number]
    right = bool(one.given) == bool(one.wanted)
    assert right != bool(WRONG.intersection(one.texts)), one


def test_the_rules_state_what_is_measured() -> None:
    stated = {name: spec.accuracy for name, spec in all_specs().items() if spec.accuracy}
    assert stated == accuracy(outcomes())


def test_every_rule_that_is_for_gating_reaches_the_goal() -> None:
    for name, spec in all_specs().items():
        if spec.accuracy and not spec.screen:
            assert spec.accuracy.precision >= GOAL_PRECISION, name
            assert spec.accuracy.recall >= GOAL_RECALL, name
