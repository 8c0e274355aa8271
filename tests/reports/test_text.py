"""Terminal, Markdown and CSV."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from harness.store.folder import RunFolder
from reports.tables import write_csv
from reports.text import summary_markdown, summary_rows, summary_text
from reports.verdict_sentence import verdict_sentence
from reports.view import read_view


def test_the_terminal_gets_the_same_sentence_and_the_main_rows(sample: RunFolder) -> None:
    text = summary_text(sample)
    assert text.startswith(verdict_sentence(read_view(sample)))
    assert "ROUGE-L" in text
    assert "▲ better" in text
    assert all(line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_terminal_is_never_too_narrow(sample: RunFolder, columns: int) -> None:
    text = summary_text(sample, columns=columns)
    assert max(map(len, text.splitlines())) <= columns
    wide = summary_text(sample)
    assert {word for word in text.split() if set(word) != {"─"}} >= set(summary_rows(sample).headers[1:])
    for row in summary_rows(sample).rows:
        assert all(cell in text for cell in row[1:]), row
    assert len(wide.splitlines()) < len(text.splitlines())


def test_rows_have_a_cell_for_every_header(sample: RunFolder) -> None:
    summary = summary_rows(sample, everything=True)
    assert summary.headers == ("", "base", "base-nf4", "adapter", "merged")
    assert {len(row) for row in summary.rows} == {5}
    assert len(summary.rows) > len(summary_rows(sample).rows)


def test_markdown_holds_verdict_table_and_gate(sample: RunFolder) -> None:
    text = summary_markdown(sample)
    assert text.startswith("### adapter – sample\n\n**The adapter's replies are closer")
    assert "|  | base | base-nf4 | adapter | merged |" in text
    assert "| emergencies | adapter" in text


def test_markdown_takes_hostile_names_literally(hostile: RunFolder) -> None:
    text = summary_markdown(hostile)
    assert "<img" not in text
    assert "<script" not in text
    assert "://" not in text
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.count(" | ") for line in tables} == {4, 3}  # the summary, and the gate's checks


def test_the_terminal_gets_no_control_characters(hostile: RunFolder) -> None:
    assert "\x1b" not in summary_text(hostile)
    assert "\u202e" not in summary_text(hostile)


def test_csv_tables_can_be_read_back(sample: RunFolder, tmp_path: Path) -> None:
    paths = {path.name: path for path in write_csv(sample, tmp_path)}
    assert set(paths) == {"values.csv", "comparisons.csv", "slices.csv", "dialogues.csv", "gate.csv"}
    with paths["comparisons.csv"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    summary = sample.read_summary()
    assert len(rows) == len(summary.comparisons)
    assert float(rows[0]["value"]) == summary.comparisons[0].value
    with paths["dialogues.csv"].open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 4 * 120


def test_csv_cells_are_never_formulas(hostile: RunFolder, tmp_path: Path) -> None:
    for path in write_csv(hostile, tmp_path):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                for cell in row:
                    assert not cell.startswith(("=", "+", "@")) or cell.lstrip("+").replace(".", "").isdigit()


def test_a_latency_that_was_timed_at_a_server_is_not_called_unmeasured(sample: RunFolder) -> None:
    name = "latency.tpot_ms.p50"
    view = read_view(sample)
    known = view.summary.metrics[name]
    alone = {variant: row for variant, row in known.variants.items() if variant == "base"}
    others = {variant: row for variant, row in known.variants.items() if variant != "base"}
    metrics = {
        **view.summary.metrics,
        name: known.model_copy(update={"variants": alone}),
        f"{name}[engine=server,concurrency=1]": known.model_copy(update={"variants": others}),
    }
    served = replace(view, summary=view.summary.model_copy(update={"metrics": metrics}))
    label = served.label(name)
    row = next(row for row in summary_rows(sample, view=served).rows if row[0].startswith(label))
    assert all(cell.startswith("at its server") for cell in row[2:])
