"""The word lists are well formed, and their notation means what it says."""

from __future__ import annotations

import pytest

from harness.metrics.medical.claims import Claims
from harness.metrics.medical.lexicons import expand, read_table
from harness.metrics.medical.reading import drug_classes, fold, read
from harness.metrics.registry import Item


@pytest.mark.parametrize(
    ("pattern", "phrases"),
    [
        ("a b", {"a b"}),
        ("(a|b) c", {"a c", "b c"}),
        ("head ache[s]", {"head ache", "head aches"}),
        ("[very] ill", {"very ill", " ill"}),
    ],
)
def test_patterns_stand_for_phrases(pattern: str, phrases: set[str]) -> None:
    assert set(expand(pattern)) == phrases


@pytest.mark.parametrize("pattern", ["(a|b", "a)", "[a", "(a|(b))", "(a|b)" * 20])
def test_unusable_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        expand(pattern)


def test_every_medication_has_a_known_class_and_stands_once() -> None:
    known = {group for group, _ in read_table("drug_classes.tsv", 2)}
    rows = list(read_table("drugs.tsv", 3))
    assert {group for _, group, _ in rows} <= known
    assert len(drug_classes()) == len(rows) > 400


def test_no_name_means_two_medications() -> None:
    seen: dict[str, str] = {}
    for generic, _, others in read_table("drugs.tsv", 3):
        for name in (generic, *(name for name in others.split(";") if name and name != generic)):
            assert seen.setdefault(name, generic) == generic, name


def test_a_match_quotes_the_text_as_it_stands() -> None:
    reading = read("Ibuprofen!\nİ took  TYLENOL – and co-amoxiclav.")
    assert [reading.quote(match) for match in reading.of("drug")] == ["Ibuprofen", "TYLENOL", "co-amoxiclav"]


def test_folding_keeps_every_character_in_its_place() -> None:
    for text in ("İstanbul", "STRASSE ẞ", "don’t", "\ud800X", ""):
        assert len(fold(text)) == len(text)


def test_long_phrases_win_over_short_ones() -> None:
    assert [match.key for match in read("He has hay fever and a fever.").of("finding")] == ["hay fever", "fever"]


CLAIMS = {"Must_have": ["Ibuprofen relieves the pain", "Rest for two weeks"], "nice_to_have": '["Drink water"]'}


@pytest.mark.parametrize(
    ("reply", "must", "nice"),
    [
        ("Ibuprofen will relieve your pain. Rest for two weeks.", 1.0, 0.0),
        ("Advil relieves pain. Please drink some water.", 0.5, 1.0),
        ("", 0.0, 0.0),
    ],
)
def test_claims_are_covered_by_most_of_their_words(reply: str, must: float, nice: float) -> None:
    scores = Claims().score([Item("1", "", "", reply, CLAIMS)])[0]
    assert scores.values == {"quality.must_have_coverage": must, "quality.nice_to_have_coverage": nice}


@pytest.mark.parametrize("claims", [None, [], {"a": 1}, 3, "", [1, None]])
def test_without_claims_there_is_no_coverage(claims: object) -> None:
    scores = Claims().score([Item("1", "", "", "Rest.", {"must_have": claims})])[0]
    assert set(scores.values.values()) == {None}
