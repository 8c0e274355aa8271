"""The sheet for people to read: blind, without scores, and joined to the variants by its key alone."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from lxml import html

from harness.cli.app import main
from harness.errors import InputError
from harness.files import write_rows
from harness.store.folder import RunFolder
from harness.store.redaction import redact
from reports.reading_list import draw, write_reading_list
from reports.rules import safety_rules
from reports.view import read_view
from tests.reports.sample_run import Sample, build_sample_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return build_sample_run(tmp_path_factory.mktemp("runs") / "sample", Sample(dialogues=60))


def key_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_reply_of_the_sheet_is_the_one_of_the_variant_that_the_key_names(run: RunFolder, tmp_path: Path) -> None:
    sheet, key = write_reading_list(run, 20, tmp_path)
    cards = html.fromstring(sheet.read_text(encoding="utf-8")).xpath("//article")
    rows = key_of(key)
    assert len(cards) == len(rows) == 20
    for card, row in zip(cards, rows, strict=True):
        shown = [part.text for part in card.xpath(".//section/p")]
        replies = {name: {one.id: one.reply for one in run.replies(name)} for name in (row["A"], row["B"])}
        assert shown == [replies[row["A"]][row["id"]], replies[row["B"]][row["id"]]]
        assert card.xpath("./h2")[0].text.strip() == f"Dialogue {row['number']}"


def test_the_sheet_has_neither_names_nor_scores(run: RunFolder, tmp_path: Path) -> None:
    sheet, key = write_reading_list(run, 20, tmp_path)
    text = html.fromstring(sheet.read_text(encoding="utf-8")).text_content()
    for hidden in ("adapter", "merged", "rouge", "ROUGE", "safety."):
        assert hidden not in text
    assert {row["id"] for row in key_of(key) if row["id"] in text} == set()


def test_half_are_drawn_by_what_the_rules_found_and_newly_firing_ones_first(run: RunFolder) -> None:
    view = read_view(run)
    drawn = draw(view, 20)
    assert Counter(one.by_rule for one in drawn) == {True: 10, False: 10}
    assert all(one.rules for one in drawn if one.by_rule)

    def newly(dialogue: str) -> bool:
        ours, theirs = (view.replies[name][dialogue].scores for name in (view.candidate or "", view.reference or ""))
        return any((ours.get(rule) or 0) > (theirs.get(rule) or 0) for rule in safety_rules(view))

    new = sum(newly(row.id) for row in view.dialogues)
    assert sum(newly(one.row.id) for one in drawn if one.by_rule) == min(10, new)


def test_the_same_run_gives_the_same_sheet_and_the_order_of_the_variants_varies(run: RunFolder) -> None:
    first, again = draw(read_view(run), 30), draw(read_view(run), 30)
    assert first == again
    assert len({one.variants for one in first}) == 2
    by_rule = [one.by_rule for one in first]
    assert by_rule != sorted(by_rule, reverse=True)  # where a dialogue stands does not tell why it was drawn


def test_more_than_there_are_gives_all(run: RunFolder) -> None:
    drawn = draw(read_view(run), 1000)
    assert len(drawn) == len({one.row.id for one in drawn}) <= 60


def test_replies_cannot_bring_markup_into_the_sheet(tmp_path: Path) -> None:
    run = build_sample_run(tmp_path / "run", Sample(dialogues=6))
    for name in ("base", "adapter"):
        rows = [row.model_copy(update={"reply": "<script>alert(1)</script>\u202e"}) for row in run.replies(name)]
        write_rows(run.replies_path(name), rows)
    sheet, _ = write_reading_list(run, 6, tmp_path)
    assert "<script" not in sheet.read_text(encoding="utf-8")
    assert "\u202e" not in sheet.read_text(encoding="utf-8")


def test_without_texts_there_is_nothing_to_read(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run.root), "--reading-list", "5", "--redact-text"]) == 2
    assert "cannot be combined with --redact-text" in capsys.readouterr().err
    redacted = build_sample_run(tmp_path / "redacted", Sample(dialogues=6))
    redact(redacted, redacted.read_manifest())
    with pytest.raises(InputError, match="no dialogue with a reply of base and adapter"):
        write_reading_list(redacted, 5)


def test_the_command_writes_both_beside_the_page(run: RunFolder, tmp_path: Path) -> None:
    assert main(["report", str(run.root), "--out", str(tmp_path / "page.html"), "--reading-list", "3"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", "reading-list.html", "reading-list-key.csv"}
