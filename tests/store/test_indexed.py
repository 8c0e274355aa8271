"""Rows of a file found by their ID: the same rows as reading the file gives, one at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InputError
from harness.files import write_rows
from harness.store.indexed import IndexedRows, RowSequence
from harness.store.schema import ReplyRow, ScoringRecord


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "replies.jsonl"
    write_rows(path, [ReplyRow(id=id, reply=f"Reply {id}.") for id in ("b", 'quoted "é"', "a")])
    return path


def test_rows_are_in_the_order_of_the_file_and_found_in_any(path: Path) -> None:
    rows = IndexedRows(ReplyRow, path)
    assert list(rows) == ["b", 'quoted "é"', "a"]
    assert [rows[id].reply for id in sorted(rows)] == ["Reply a.", "Reply b.", 'Reply quoted "é".']
    assert rows.get("c") is None
    assert RowSequence(rows)[-1].id == "a"


def test_lines_of_another_writer_are_read(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"reply":"R","id":"x"}\n\n{ "id" : "y" }\n')
    assert list(IndexedRows(ReplyRow, path)) == ["x", "y"]


def test_of_two_rows_the_later_counts_and_a_torn_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write_rows(path, [ScoringRecord(id="a", key="1", nll=1.0), ScoringRecord(id="a", key="2", nll=2.0)])
    with path.open("a") as file:
        file.write('{"id": "b", "key"')
    rows = IndexedRows(ScoringRecord, path, torn_tail="ignore")
    assert {id: row.nll for id, row in rows.items()} == {"a": 2.0}
    first = IndexedRows(ScoringRecord, path, torn_tail="ignore", accept=lambda row: row.key == "1")
    assert first["a"].nll == 1.0


def test_a_damaged_line_is_named_when_it_is_read(path: Path) -> None:
    with path.open("a") as file:
        file.write('{"id": "z", "reply": 3}\n')
    rows = IndexedRows(ReplyRow, path)
    with pytest.raises(InputError, match=r"replies\.jsonl, line 4: not a ReplyRow"):
        rows["z"]


def test_a_line_that_states_its_id_twice_is_refused(path: Path) -> None:
    with path.open("a") as file:
        file.write('{"id": "z", "id": "y"}\n')
    with pytest.raises(InputError, match="line 4: the line changed, or states its ID twice"):
        IndexedRows(ReplyRow, path)["z"]


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    assert not IndexedRows(ReplyRow, tmp_path / "none.jsonl")
