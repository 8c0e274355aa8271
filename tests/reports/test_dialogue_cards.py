"""Which dialogues the page shows, and what stands on their cards."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.files import write_rows
from harness.store.folder import RunFolder
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


def test_an_excerpt_begins_behind_the_words_that_open_every_prompt(view: RunView) -> None:
    prompts = [
        f"### Instruction:\nReply.\n\n### Dialogue:\nMy {part} hurts.\n\n### Reply:\n" for part in ("ear", "eye")
    ]
    rows = [row.model_copy(update={"prompt": prompt}) for row, prompt in zip(view.dialogues, prompts, strict=False)]
    cards = dialogue_cards(replace(view, dialogues=tuple(rows)), Shown()).cards
    assert {card.excerpt for card in cards} == {"My ear hurts. ### Reply:", "My eye hurts. ### Reply:"}


def too_long(view: RunView, variant: str, dialogues: Sequence[str]) -> RunView:
    """The view with replies of a variant left out, and so bad that they would be the worst."""
    rows = dict(view.replies[variant])
    for name in dialogues:
        scores = dict.fromkeys(rows[name].scores, -1.0)
        rows[name] = rows[name].model_copy(update={"error": "too long", "scores": scores})
    return replace(view, replies={**view.replies, variant: rows})


@pytest.mark.parametrize("variant", ["adapter", "base"])
def test_a_dialogue_that_one_side_left_out_is_not_among_the_worst_but_marked(view: RunView, variant: str) -> None:
    names = [row.id for row in view.dialogues[:3]]
    left = too_long(view, variant, names)
    assert not set(names) & {card.id for card in dialogue_cards(left, Shown(60, 0)).cards}
    marked = {card.id: card for card in dialogue_cards(left, Shown()).cards if card.left_out}
    assert sorted(marked) == sorted(names)
    assert all((card.left_out, card.order, card.change) == ("left out: too long", None, "") for card in marked.values())


def test_the_page_says_which_dialogues_are_left_out(sample: RunFolder, tmp_path: Path) -> None:
    folder = RunFolder(shutil.copytree(sample.root, tmp_path / "run"))
    rows = [
        row.model_copy(update={"error": "too long"}) if k == 0 else row
        for k, row in enumerate(folder.replies("adapter"))
    ]
    write_rows(folder.replies_path("adapter"), rows)
    assert "left out: too long; no figure above includes this reply." in render(folder)
    redacted = render(folder, redact_text=True)
    assert "left out; no figure above" in redacted
