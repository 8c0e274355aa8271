"""Hidden characters are written out; everything else stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.escape import cut, shorten, visible

ANYTHING = st.text(alphabet=st.characters(codec=None, exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("a\x00\x1b[0m", "a⟨U+0000⟩⟨U+001B⟩[0m"),
        ("lone \ud800", "lone ⟨U+D800⟩"),
        ("x\u200by", "x⟨U+200B⟩y"),
        ("x\u200dy", "x⟨U+200D⟩y"),
        ("tag \U000e0041", "tag ⟨U+E0041⟩"),
        ("one\r\ntwo\rthree", "one\ntwo⟨U+000D⟩three"),
    ],
)
def test_hidden_characters_are_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text", ["plain\ttext\nhere", "👨\u200d👩\u200d👧", "می\u200cخواهم", "é ü ß", "שלום", "<b>&amp;"]
)
def test_ordinary_text_of_any_script_stays(text: str) -> None:
    assert visible(text) == text


@given(ANYTHING)
def test_any_text_becomes_encodable_and_nothing_hidden_is_left(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert visible(shown) == shown


def test_a_pile_of_marks_is_cut() -> None:
    assert visible("Z" + "\u0300" * 50) == "Z" + "\u0300" * 4 + "⟨more marks⟩"


@given(ANYTHING, st.integers(2, 40))
def test_shortened_text_keeps_to_its_limit(text: str, limit: int) -> None:
    assert len(shorten(text, limit)) <= limit


def test_cutting_tells_how_much_is_missing() -> None:
    assert cut("abcdef", 4) == ("abcd", 2)
    assert cut("abcd", 4) == ("abcd", 0)
