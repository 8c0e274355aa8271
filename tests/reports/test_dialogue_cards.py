"""Which dialogues the page shows, and what stands on their cards."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.files import write_rows
from harness.store.folder import RunFolder
from harness.store.indexed import IndexedRows, RowSequence
from harness.store.schema import DialogueRow
from reports.dialogue_cards import DialogueCards, Shown, dialogue_cards
from reports.render import render
from reports.view import RunView, read_view


@pytest.fixture(scope="module")
def view(sample: RunFolder) -> RunView:
    return read_view(sample)


@pytest.fixture(scope="module")
def cards(view: RunView) -> DialogueCards:
    return dialogue_cards(view, Shown())


def test_the_worst_come_first(cards: DialogueCards) -> None:
    orders = [card.order for card in cards.cards if card.order is not None]
    assert orders == sorted(orders)
    assert len(orders) == 120


def test_the_same_dialogues_are_chosen_every_time(view: RunView) -> None:
    chosen = [[card.id for card in dialogue_cards(view, Shown(10, 10)).cards] for _ in range(2)]
    assert chosen[0] == chosen[1]
    assert len(set(chosen[0])) == 20


def test_a_reply_equal_to_its_counterpart_is_said_to_be_so(cards: DialogueCards) -> None:
    merged = [reply for card in cards.cards for reply in card.replies if reply.variant == "merged"]
    same = [reply for reply in merged if reply.same_as == "adapter"]
    assert same
    assert all(reply.text is None for reply in same)


def test_merged_is_marked_against_the_adapter_and_the_adapter_against_the_reference(cards: DialogueCards) -> None:
    compared = {(reply.variant, reply.compared_with) for card in cards.cards for reply in card.replies if reply.text}
    assert ("adapter", "reference") in compared
    assert ("merged", "adapter") in compared
    assert ("base-nf4", "base") in compared


def test_rules_say_which_words_they_fired_on(cards: DialogueCards) -> None:
    flags = [flag for card in cards.cards for reply in card.replies for flag in reply.flags]
    assert any(flag.label == "unsupported medication" and flag.words == ("ibuprofen",) for flag in flags)
    assert {cards.flags[flag.index] for flag in flags} == {flag.label for flag in flags}


def test_an_error_is_shown_in_place_of_the_reply(cards: DialogueCards) -> None:
    missing = [reply.missing for card in cards.cards for reply in card.replies if reply.missing]
    assert missing == ["No reply: CUDA out of memory while decoding"]


def test_redacted_cards_keep_numbers_only(sample: RunFolder) -> None:
    cards = dialogue_cards(read_view(sample, redact_text=True), Shown()).cards
    assert all(card.prompt is None and card.reference is None and not card.excerpt for card in cards)
    assert all(reply.text is None for card in cards for reply in card.replies)
    assert all(not flag.words for card in cards for reply in card.replies for flag in reply.flags)
    assert any("ROUGE-L" in reply.scores for card in cards for reply in card.replies)
    assert {name for card in cards for name, _ in card.columns} == {"source"}  # the run is sliced by it


def test_filters_offer_the_columns_with_few_values(cards: DialogueCards) -> None:
    assert {column for column, _ in cards.levels} == {"source", "condition"}


def test_the_words_of_the_template_stand_on_no_card(view: RunView, tmp_path: Path) -> None:
    prompts = [
        f"### Instruction:\nReply.\n\n### Dialogue:\nMy {part} hurts.\n\n### Reply:\n" for part in ("ear", "eye")
    ]
    rows = [row.model_copy(update={"prompt": prompt}) for row, prompt in zip(view.dialogues, prompts, strict=False)]
    write_rows(tmp_path / "dialogues.jsonl", rows)
    dialogues = RowSequence(IndexedRows(DialogueRow, tmp_path / "dialogues.jsonl"))
    cards = dialogue_cards(replace(view, dialogues=dialogues), Shown()).cards
    assert {card.excerpt for card in cards} == {"My ear hurts.", "My eye hurts."}
    assert {card.prompt.segments[0].text for card in cards if card.prompt} == {"My ear hurts.", "My eye hurts."}


def test_a_reply_whose_reference_was_too_long_to_score_counts_and_says_so(sample: RunFolder, tmp_path: Path) -> None:
    folder = RunFolder(shutil.copytree(sample.root, tmp_path / "run"))
    rows = folder.replies("adapter")
    low = {**dict.fromkeys(rows[0].scores, -1.0)}
    rows[0] = rows[0].model_copy(update={"error": "too long", "scores": low})
    write_rows(folder.replies_path("adapter"), rows)
    assert dialogue_cards(read_view(folder), Shown(1, 0)).cards[0].id == rows[0].id
    assert "Its reference was not scored: too long" in render(folder)
    redacted = render(folder, redact_text=True)
    assert "Its reference was not scored." in redacted
    assert "not scored: too long" not in redacted


def test_what_a_patient_does_not_see_and_further_references_are_folded(sample: RunFolder, tmp_path: Path) -> None:
    folder = RunFolder(shutil.copytree(sample.root, tmp_path / "run"))
    replies, dialogues = folder.replies("adapter"), folder.dialogues()
    replies[0] = replies[0].model_copy(update={"raw": "<think>Ask of <b>fever</b>", "reply": "", "unfinished": True})
    dialogues[0] = dialogues[0].model_copy(update={"further_references": ("Rest a while.", "Drink a lot.")})
    write_rows(folder.replies_path("adapter"), replies)
    write_rows(folder.dialogues_path, dialogues)
    page = render(folder)
    assert "&lt;think&gt;Ask of &lt;b&gt;fever&lt;/b&gt;" in page
    assert "ends inside a reasoning block" in page
    assert "2 further references" in page
    assert "Drink a lot." in page
    redacted = render(folder, redact_text=True)
    assert "Ask of" not in redacted
    assert "Drink a lot." not in redacted
