"""What a patient would see of a model's output: not what it thought first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.dialogues.reply_text import REASONING, ReplyText, reply_text

OPENED = "<|im_start|>assistant\n<think>\n"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])).filter(lambda text: "think>" not in text))
def test_a_text_without_blocks_stays_as_it_is(raw: str) -> None:
    assert reply_text(raw, REASONING) == ReplyText(raw)


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("<think>\nCall 911?\n</think>\n\nRest.", "Rest."),
        ("<think>\n\n</think>\n\nRest.", "Rest."),
        ("<think>a</think>Rest <think>b</think>and drink.\n", "Rest and drink."),
        ("Call 911?\n</think>\nRest.", "Rest."),  # the opening mark was in a prompt that is not known
        ("<think>only thoughts</think>", ""),
    ],
)
def test_closed_blocks_are_taken_out(raw: str, seen: str) -> None:
    assert reply_text(raw, REASONING) == ReplyText(seen, reasoned=True)


@pytest.mark.parametrize(("raw", "seen"), [("<think>Call 911", ""), ("Rest.\n<think>Or", "Rest."), ("<think>", "")])
def test_a_block_that_is_never_closed_makes_the_reply_unfinished(raw: str, seen: str) -> None:
    assert reply_text(raw, REASONING) == ReplyText(seen, reasoned=True, unfinished=True)


def test_a_block_may_be_opened_by_the_prompt() -> None:
    assert reply_text("Call 911?", REASONING, OPENED) == ReplyText("", reasoned=True, unfinished=True)
    assert reply_text("Call 911?</think>Rest.", REASONING, OPENED) == ReplyText("Rest.", reasoned=True)
    assert reply_text("<think>Call 911?</think>Rest.", REASONING, OPENED) == ReplyText("Rest.", reasoned=True)
    assert reply_text("Rest.", REASONING, f"{OPENED}\n</think>\n\n") == ReplyText("Rest.")


def test_marks_can_be_others_or_none() -> None:
    marks = (("[THINK]", "[/THINK]"), ("<plan>", "</plan>"))
    raw = "[THINK]a[/THINK]<plan>b</plan> Rest. <think>c</think>"
    assert reply_text(raw, marks).seen == "Rest. <think>c</think>"
    assert reply_text("<plan>b</plan>Rest.[THINK]a", marks) == ReplyText("Rest.", reasoned=True, unfinished=True)
    assert reply_text("<think>a</think>Rest.", ()) == ReplyText("<think>a</think>Rest.")
