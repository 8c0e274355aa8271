"""The dialogues that got worse: which they are, and what stands on their cards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from lxml import html as lxml_html

from harness.store.folder import RunFolder
from reports.got_worse import CARDS, LOSSES, GotWorse, Side, _sides, got_worse, lead
from reports.passages import passage
from reports.render import render
from reports.view import RunView, read_view
from tests.reports.ten_runs import MEDICATION, RUNS, run_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return RUNS["failed-by-safety"](tmp_path_factory.mktemp("worse") / "run")


@pytest.fixture(scope="module")
def view(folder: RunFolder) -> RunView:
    return read_view(folder)


@pytest.fixture(scope="module")
def loss(tmp_path_factory: pytest.TempPathFactory) -> RunView:
    return read_view(run_of(tmp_path_factory.mktemp("worse") / "loss", dialogues=40, rouge=-0.15))


def newly(view: RunView) -> set[str]:
    base, adapter = view.replies["base"], view.replies["adapter"]
    fired = (MEDICATION, "safety.missed_emergency")
    return {
        name
        for name, row in adapter.items()
        if any((row.scores.get(rule) or 0) > (base[name].scores.get(rule) or 0) for rule in fired)
    }


def test_every_dialogue_on_which_a_rule_newly_fires_is_there_and_no_other(view: RunView) -> None:
    found = got_worse(view)
    shown = {card.id for card in (*found.losses, *found.fired, *found.more) if card.fired}
    assert shown == newly(view)
    assert len(shown) > CARDS


def test_only_the_first_have_cards_and_the_others_a_line_that_is_counted(view: RunView, folder: RunFolder) -> None:
    found = got_worse(view)
    assert len(found.fired) == CARDS
    assert all(card.question and card.sides for card in found.fired)
    assert not any(card.question or card.sides for card in found.more)
    assert f"{len(found.more)} more dialogues on which a safety rule newly fires" in render(folder)


def test_so_many_that_the_page_would_not_open_are_counted_and_not_listed(
    view: RunView, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = got_worse(view).firing
    monkeypatch.setattr("reports.got_worse.LISTED", 2)
    found = got_worse(view)
    assert (len(found.more), found.firing) == (2, total)
    assert f"{total - CARDS} more dialogues on which a safety rule newly fires: the first 2" in render(folder)


def test_the_largest_losses_come_first(loss: RunView) -> None:
    drops = {
        name: loss.replies["base"][name].scores["quality.rouge_l"] - row.scores["quality.rouge_l"]  # type: ignore[operator]
        for name, row in loss.replies["adapter"].items()
    }
    assert [card.id for card in got_worse(loss).losses] == sorted(drops, key=lambda name: -drops[name])[:LOSSES]


def test_a_run_without_losses_says_so_and_shows_no_gain_as_a_loss(view: RunView) -> None:
    found = got_worse(view)
    assert found.losses == ()
    assert lead(view, found).startswith("By ROUGE-L, the adapter does worse than the base on none of 200 dialogues.")


def test_the_lead_counts_where_a_rule_stopped_firing_too(view: RunView) -> None:
    assert "unsupported medication on 99 (no longer on 1)" in lead(view, got_worse(view))


def test_the_reply_stands_beside_the_bases_with_the_rules_words_and_differences_marked(view: RunView) -> None:
    card = next(card for card in got_worse(view).fired if any("ibuprofen" in rule.words for rule in card.fired))
    base, adapter = card.sides
    assert (base.variant, adapter.variant) == ("base", "adapter")
    assert base.reply
    assert adapter.reply
    assert [piece.text for piece in adapter.reply.pieces if piece.rule] == ["ibuprofen"]
    assert any(piece.differs and "glass" in piece.text for piece in base.reply.pieces)


def test_neither_title_nor_question_has_the_templates_words(view: RunView) -> None:
    found = got_worse(view)
    for card in (*found.fired, *found.more):
        assert card.title.startswith("For ")
        assert card.title.endswith("What helps?")
    assert found.fired[0].question
    assert "###" not in "".join(piece.text for piece in found.fired[0].question.pieces)


def test_redacted_cards_keep_ids_rules_and_numbers_but_no_text(folder: RunFolder, loss: RunView) -> None:
    found = got_worse(read_view(folder, redact_text=True))
    assert found.fired[0].rules
    assert not any(card.title or card.question or card.sides or card.reference for card in found.fired)
    assert not any(rule.words for card in found.fired for rule in card.fired)
    assert got_worse(replace(loss, redacted=True)).losses[0].change.startswith("−")
    assert "ibuprofen" not in render(folder, redact_text=True)


def test_an_empty_or_missing_reply_is_said_to_be_one(loss: RunView) -> None:
    card = got_worse(loss).losses[0]
    rows = dict(loss.replies["adapter"])
    rows[card.id] = rows[card.id].model_copy(update={"reply": " "})
    emptied = got_worse(replace(loss, replies={**loss.replies, "adapter": rows})).losses[0]
    assert emptied.sides[1].said == "The reply is empty."


def without(view: RunView, family: str) -> RunView:
    """Return the view as if its run had not measured a family."""
    kept = {name: metric for name, metric in view.summary.metrics.items() if not name.startswith(family)}
    return replace(view, summary=view.summary.model_copy(update={"metrics": kept}))


def test_without_safety_rules_only_losses_are_shown(loss: RunView) -> None:
    found = got_worse(without(loss, "safety."))
    assert len(found.losses) == LOSSES
    assert not found.ruled
    assert found.firing == 0


def test_without_quality_the_rules_are_still_shown(view: RunView) -> None:
    found = got_worse(without(view, "quality."))
    assert found.firing == len(newly(view))
    assert lead(view, found).startswith("Safety rules newly fire: ")


def test_a_single_variant_has_nothing_to_be_worse_than(tmp_path: Path, view: RunView) -> None:
    alone = view.manifest.model_copy(update={"variants": view.manifest.variants[:1]})
    summary = view.summary.model_copy(update={"metrics": {}, "comparisons": (), "coverage": {}})
    only = replace(view, manifest=alone, summary=summary, gate=None, replies={"base": view.replies["base"]})
    assert got_worse(only) == GotWorse(
        absent="This run has one variant, so there is nothing that its replies could be worse than."
    )


def test_the_section_follows_the_verdict_and_opens_one_card(folder: RunFolder) -> None:
    root = lxml_html.document_fromstring(render(folder))
    assert [element.get("id") or element.get("class") for element in root.xpath("//main/*")][:2] == [
        "verdict worse",
        "worse",
    ]
    assert len(root.xpath("//section[@id='worse']//details[@open]")) == 1
    assert len(root.xpath("//section[@id='worse']//details[contains(@class, 'worse-card')]")) == CARDS
    assert root.xpath("//section[@id='worse']//strong[@class='rule-word']")[0].text_content() == "ibuprofen"


def test_of_several_candidates_the_cards_show_the_one_that_the_gate_judged(sample: RunFolder) -> None:
    view = read_view(sample)
    assert view.gate
    judged = replace(view, gate=view.gate.model_copy(update={"candidate": "merged"}))
    assert {side.variant for card in got_worse(judged).fired for side in card.sides} == {"base", "merged"}


def test_what_is_said_of_both_replies_stands_once() -> None:
    alike = Side("base", passage("Rest.", 100), "The two replies are identical.")
    assert [side.said for side in _sides(alike, replace(alike, variant="adapter"))] == ["", alike.said]
    missing = Side("base", None, "No reply.")
    assert [side.said for side in _sides(missing, missing)] == ["No reply.", "No reply."]
