"""Marks in a text: what differs from another one, and what a rule fired on."""

from __future__ import annotations

from reports.passages import Piece, passage

TEXT = "Take ibuprofen 400 mg after meals."


def test_words_of_a_rule_are_marked_whatever_their_case_and_spacing() -> None:
    found = passage("Take Ibuprofen  400 mg.", 100, words=["ibuprofen 400 mg"])
    assert found.pieces == (Piece("Take "), Piece("Ibuprofen  400 mg", rule=True), Piece("."))


def test_a_word_within_another_is_not_marked() -> None:
    assert not any(piece.rule for piece in passage("Aspirination", 100, words=["aspirin"]).pieces)


def test_the_longer_of_two_findings_is_marked_whole() -> None:
    marked = [piece.text for piece in passage(TEXT, 100, words=["400", "400 mg"]).pieces if piece.rule]
    assert marked == ["400 mg"]


def test_differences_and_findings_overlap_without_losing_a_letter() -> None:
    found = passage(TEXT, 100, other="Take paracetamol after meals.", words=["ibuprofen"])
    assert "".join(piece.text for piece in found.pieces) == TEXT
    assert Piece("ibuprofen", differs=True, rule=True) in found.pieces
    assert Piece(" after meals.") in found.pieces


def test_texts_with_little_in_common_are_not_marked_and_said_to_be_unlike() -> None:
    found = passage("Rest a while.", 100, other="Amoxicillin three times daily")
    assert found.unlike
    assert not any(piece.differs for piece in found.pieces)


def test_a_long_text_says_what_is_missing() -> None:
    found = passage("rest " * 100, 50)
    assert sum(len(piece.text) for piece in found.pieces) == 50
    assert found.left_out == "450 characters of 500 characters omitted here"
