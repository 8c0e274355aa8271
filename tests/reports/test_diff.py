"""Word differences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reports.diff import words_unlike


def test_marks_the_words_that_the_other_text_lacks() -> None:
    segments = words_unlike("Take two tablets daily.", "Take one tablet daily.")
    assert [segment.text for segment in segments if segment.marked] == ["two tablets"]


def test_case_and_spacing_are_no_difference() -> None:
    assert not any(segment.marked for segment in words_unlike("Rest  and\nFluids", "rest and fluids"))


def test_a_lone_word_in_common_amid_different_ones_is_marked_with_them() -> None:
    segments = words_unlike("Drink plenty of warm water.", "A glass of tea.")
    assert [segment.text for segment in segments if segment.marked] == ["Drink plenty of warm water"]


@given(st.text(), st.text())
def test_the_segments_are_the_text(text: str, other: str) -> None:
    assert "".join(segment.text for segment in words_unlike(text, other)) == text


@given(st.text())
def test_a_text_is_like_itself(text: str) -> None:
    assert not any(segment.marked for segment in words_unlike(text, text))
