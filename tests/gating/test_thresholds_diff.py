"""A changed thresholds file is told in words, what is loosened first."""

from __future__ import annotations

from typing import Any

import pytest

from harness.gating.policy import Policy
from harness.gating.thresholds_diff import Change, compare

CHECK: dict[str, Any] = {"id": "a", "metric": "m", "non_inferiority": {"margin": 0.02}, "against": {"variant": "base"}}


def changes(old: dict[str, Any], new: dict[str, Any]) -> tuple[Change, ...]:
    def policy(check: dict[str, Any]) -> Policy:
        return Policy.model_validate({"version": 1, "candidate": "adapter", "checks": [check]})

    return compare(policy(old), policy(new))


def without(rule: str, **more: Any) -> dict[str, Any]:
    return {**{key: value for key, value in CHECK.items() if key != rule}, **more}


def test_equal_files_have_no_changes() -> None:
    assert changes(CHECK, CHECK) == ()


@pytest.mark.parametrize(
    ("old", "new", "effect", "said"),
    [
        ({}, {"non_inferiority": {"margin": 0.05}}, "loosened", "margin 0.05 is required, not non_inferiority"),
        ({}, {"severity": "warn"}, "loosened", "only warns"),
        ({}, {"judge": "point"}, "loosened", "ignoring its uncertainty"),
        ({"must_pass": ["x", "y"]}, {"must_pass": ["y"]}, "loosened", "no longer must pass: x"),
        ({}, {"min_samples": 30}, "loosened", "samples required: 30, not 100"),
        ({}, {"slice": {"source": "a"}}, "changed", "source=a, not all dialogues"),
        ({}, {"against": {"baseline": "main"}}, "changed", "the same variant of baseline main, not variant base"),
        ({}, {"metric": "n"}, "changed", "another metric is judged: n, not m"),
        ({}, {"candidate": "merged"}, "changed", "merged, not adapter"),
        ({}, {"set": "general"}, "changed", "it judges the set general, not the first set"),
    ],
)
def test_each_change_of_a_check_is_named_and_turns_round(
    old: dict[str, Any], new: dict[str, Any], effect: str, said: str
) -> None:
    there = changes({**CHECK, **old}, {**CHECK, **new})
    assert [change.effect for change in there] == [effect]
    assert said in there[0].sentence
    back = changes({**CHECK, **new}, {**CHECK, **old})
    assert [change.effect for change in back] == [{"loosened": "tightened", "changed": "changed"}[effect]]


@pytest.mark.parametrize(("rule", "effect"), [("min", "loosened"), ("max", "tightened")])
def test_a_lower_min_is_looser_and_a_lower_max_tighter(rule: str, effect: str) -> None:
    old, new = without("non_inferiority", **{rule: 0.3}), without("non_inferiority", **{rule: 0.2})
    assert [change.effect for change in changes(old, new)] == [effect]


def test_a_check_that_only_fails_on_proof_is_looser() -> None:
    new = without("non_inferiority", no_regression={"max_drop": 0.02})
    assert [change.effect for change in changes(CHECK, new)] == ["loosened"]


def test_a_check_that_is_gone_is_loosened_and_comes_first() -> None:
    def policy(**facts: Any) -> Policy:
        return Policy.model_validate({"version": 1, **facts})

    old = policy(checks=[CHECK], defaults={"min_coverage": 0.9})
    new = policy(checks=[{**CHECK, "id": "b"}], defaults={"min_coverage": 0.99})
    assert [(change.effect, change.where) for change in compare(old, new)] == [
        ("loosened", "a"),
        ("tightened", "defaults.min_coverage"),
        ("tightened", "b"),
    ]


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("confidence", 0.95, 0.9),
        ("min_samples", 100, 50),
        ("min_coverage", 0.99, 0.5),
        ("on_inconclusive", "fail", "pass"),
    ],
)
def test_every_default_can_be_loosened(key: str, old: Any, new: Any) -> None:
    def policy(value: Any) -> Policy:
        return Policy.model_validate({"version": 1, "defaults": {key: value}})

    assert [change.effect for change in compare(policy(old), policy(new))] == ["loosened"]
    assert [change.effect for change in compare(policy(new), policy(old))] == ["tightened"]


def test_more_confidence_loosens_what_fails_only_on_proof() -> None:
    def policy(confidence: float, *rules: dict[str, Any]) -> Policy:
        checks = [without("non_inferiority", id=str(number), **rule) for number, rule in enumerate(rules)]
        return Policy.model_validate({"version": 1, "defaults": {"confidence": confidence}, "checks": checks})

    proof, shown = {"no_regression": {"max_drop": 0}}, {"min": 0}
    there = compare(policy(0.95, proof, shown), policy(0.999, proof, shown))
    assert [change.effect for change in there] == ["loosened", "tightened"]
    assert "need more proof of a loss" in there[0].sentence
    assert "0.999, not 0.95" in there[0].sentence
    assert [change.effect for change in compare(policy(0.95, proof), policy(0.9, proof))] == ["tightened"]


def test_judging_the_point_tightens_what_fails_only_on_proof() -> None:
    proof = without("non_inferiority", no_regression={"max_drop": 0.0})
    assert [change.effect for change in changes(proof, {**proof, "judge": "point"})] == ["tightened"]
    assert [change.effect for change in changes({**proof, "judge": "point"}, proof)] == ["loosened"]


def test_a_stricter_rule_with_a_wider_margin_is_not_called_tighter() -> None:
    proof = without("non_inferiority", no_regression={"max_drop": 0.02})
    assert [change.effect for change in changes(proof, CHECK)] == ["tightened"]
    assert [change.effect for change in changes(proof, {**CHECK, "non_inferiority": {"margin": 5.0}})] == ["changed"]


def test_a_rule_that_looks_at_one_side_only_is_looser() -> None:
    both_sides = without("non_inferiority", equivalence={"margin": 0.02})
    (change,) = changes(both_sides, CHECK)
    assert change.effect == "loosened"
    assert change.sentence.endswith("(a gain no longer fails it)")
    assert [change.effect for change in changes(CHECK, both_sides)] == ["tightened"]
    narrower = {**CHECK, "non_inferiority": {"margin": 0.01}}
    assert [change.effect for change in changes(both_sides, narrower)] == ["changed"]
    assert [change.effect for change in changes(narrower, both_sides)] == ["changed"]


def test_a_rule_that_asks_for_no_proof_is_looser_than_equivalence() -> None:
    both_sides = without("non_inferiority", equivalence={"margin": 0.02})
    proof = without("non_inferiority", no_regression={"max_drop": 0.02})
    assert [change.effect for change in changes(both_sides, proof)] == ["loosened"]
    assert [change.effect for change in changes(proof, both_sides)] == ["tightened"]


def test_saying_the_file_s_own_candidate_changes_nothing() -> None:
    assert changes(CHECK, {**CHECK, "candidate": "adapter"}) == ()
