"""The split: what decides a dialogue's side, and what must not."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.dialogues.load import load_dialogues
from harness.dialogues.split import dialogue_hash, normalise, prompt_hash, select, split_of
from tests.dialogues.conftest import dialogue
from tests.shared_data import shared

SALT = "a salt"


def test_sides_are_the_same_on_every_machine() -> None:
    # Written down once: a change of these moves every user's held-out set.
    sides = [split_of(dialogue(f"question {number}"), SALT) for number in range(12)]
    assert [side[:2] for side in sides] == ["tr", "tr", "te", "tr", "tr", "tr", "tr", "tr", "tr", "va", "tr", "tr"]
    assert split_of(dialogue("question 0", conversation="talk 7"), SALT) == "train"


def test_shares_are_80_10_10_within_binomial_error() -> None:
    count = 20_000
    sides = Counter(split_of(dialogue(f"question {number}"), SALT) for number in range(count))
    for side, share in {"train": 0.8, "validation": 0.1, "test": 0.1}.items():
        assert abs(sides[side] - count * share) < 4 * math.sqrt(count * share * (1 - share))


@given(st.lists(st.text(min_size=1), unique=True), st.randoms())
def test_order_and_company_do_not_matter(prompts: list[str], random: object) -> None:
    dialogues = [dialogue(prompt) for prompt in prompts]
    held_out = {each.id for each in select(dialogues, "test", SALT)}
    shuffled = list(dialogues)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    more = [dialogue(f"something else {number}") for number in range(5)]
    assert {each.id for each in select([*more, *shuffled], "test", SALT)} - {each.id for each in more} == held_out


@given(st.text(min_size=1), st.text(), st.text())
def test_the_same_question_stays_on_one_side_whatever_the_answer(prompt: str, one: str, other: str) -> None:
    assert split_of(dialogue(prompt, one, id="1"), SALT) == split_of(dialogue(prompt, other, id="2"), SALT)


@given(st.text(), st.sampled_from([" ", "\n", "\t", " ", "  "]))
def test_case_and_white_space_make_no_other_question(prompt: str, space: str) -> None:
    told_apart = f"{space}{prompt}{space}".replace(" ", space)
    assert normalise(told_apart) == normalise(prompt)


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(("one", "other"), [("Straße", "STRASSE"), ("ﬁstula", "fistula"), ("café", "cafe\u0301")])
def test_writings_of_one_word_are_one_question(one: str, other: str) -> None:
    assert prompt_hash(dialogue(one)) == prompt_hash(dialogue(other))


def test_a_conversation_s_turns_stay_on_one_side() -> None:
    sides = {split_of(dialogue(f"turn {number}", conversation="one talk"), SALT) for number in range(50)}
    assert len(sides) == 1


def test_another_salt_is_another_split() -> None:
    dialogues = [dialogue(f"question {number}") for number in range(500)]
    assert select(dialogues, "test", "one") != select(dialogues, "test", "other")


def test_sides_are_disjoint_and_complete_and_all_is_everything() -> None:
    dialogues = tuple(dialogue(f"question {number}") for number in range(300))
    sides = [select(dialogues, side, SALT) for side in ("train", "validation", "test")]  # type: ignore[arg-type]
    assert sorted(each.id for side in sides for each in side) == sorted(each.id for each in dialogues)
    assert select(dialogues, "all", SALT) == dialogues


def test_a_dialogue_s_hash_tells_where_prompt_ends_and_reference_begins() -> None:
    assert dialogue_hash(dialogue("a b", "c")) != dialogue_hash(dialogue("a", "b c"))
    one = dialogue("What helps?", "Rest.")
    assert dialogue_hash(one) == dialogue_hash(dataclasses.replace(one, id="other", reference=" REST.\n"))


def test_a_lone_surrogate_is_hashed_like_any_other_text() -> None:
    assert prompt_hash(dialogue("\ud800")) != prompt_hash(dialogue("\ud801"))


@pytest.mark.shared
def test_no_real_question_stands_on_two_sides() -> None:
    dialogues = load_dialogues(shared("data/medquad-treatments/medquad_treatments.jsonl")).dialogues
    sides = {each: {normalise(d.prompt) for d in select(dialogues, each, SALT)} for each in ("train", "test")}  # type: ignore[arg-type]
    assert sides["train"]
    assert not sides["train"] & sides["test"]
