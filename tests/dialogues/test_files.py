"""Packed files, encodings, CSV as Excel writes it, and JSON of several shapes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from harness.dialogues import unpack
from harness.dialogues.files import read_file
from harness.dialogues.load import load_dialogues
from harness.dialogues.model import ColumnMap
from harness.errors import InputError

FILES = Path(__file__).resolve().parents[1] / "data" / "layouts"
ROW = {"instruction": "Why?", "output": "So."}


def values(path: Path, **options: Any) -> list[dict[str, object]]:
    return [row.values for row in read_file(path, **options)]


def said(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_dialogues(path, **options)
    return str(caught.value)


def test_a_stated_encoding_is_read() -> None:
    columns = ColumnMap(prompt="Frage", reference="Antwort")
    found = load_dialogues(FILES / "excel_de.csv", columns, encoding="cp1252").dialogues
    same = load_dialogues(FILES / "excel_de_utf8.csv", columns).dialogues
    assert [each.prompt for each in found] == [each.prompt for each in same]
    assert "über" in found[0].prompt


def test_another_encoding_is_named_with_the_line_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_bytes('[\n{"instruction": "über", "output": "b"}]'.encode("cp1252"))
    assert said(path) == (
        f"{path}, line 2: not UTF-8 text; if the file has another encoding, name it in dialogues.encoding "
        "(Excel: cp1252)."
    )
    assert said(path, encoding="ascii") == f"{path}, line 2: not ascii text. Check dialogues.encoding."
    assert "'cp1225' is not an encoding that Python knows" in said(path, encoding="cp1225")


def test_an_encoding_is_refused_where_it_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    path.write_bytes(b"PAR1")
    assert "is not a text file, so dialogues.encoding cannot be used" in said(path, encoding="cp1252")


def test_keys_that_do_not_go_with_a_source_are_refused(tmp_path: Path) -> None:
    path = FILES / "messages.jsonl"
    assert said(path, hub_config="en") == f"{path} is a file, so it has no configuration 'en' (dialogues.hub_config)."
    assert "is not a file, so dialogues.encoding cannot be used" in said(FILES / "configurations", encoding="cp1252")


def test_a_configuration_that_a_folder_lacks_is_refused_with_the_nearest() -> None:
    pytest.importorskip("datasets")
    folder = FILES / "configurations"
    assert said(folder, hub_config="enn") == (
        f"{folder} has no configuration 'enn'; set dialogues.hub_config to one of en, zh. Did you mean 'en'?"
    )


@pytest.mark.parametrize("name", ["packed.jsonl.gz", "packed.jsonl.zst"])
def test_a_packed_file_is_unpacked_up_to_a_limit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name.endswith("zst"):
        pytest.importorskip("pyarrow")
    assert len(values(FILES / name)) == 3
    monkeypatch.setattr(unpack, "LARGEST", 300)
    assert "unpacks to more than" in said(FILES / name)


def test_a_bomb_is_refused_without_being_unpacked_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * 50_000_000))
    monkeypatch.setattr(unpack, "LARGEST", 1_000_000)
    assert said(path).endswith("unpacks to more than 0.000931 GiB. Split it into several files.")


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_damaged_packed_file_is_one_sentence(suffix: str, tmp_path: Path) -> None:
    if suffix == ".zst":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"d.csv{suffix}"
    path.write_bytes((FILES / f"packed.jsonl{suffix}").read_bytes()[:40])
    assert f"{path} cannot be unpacked" in said(path)
    path.write_bytes(b"instruction,output\na,b\n")
    assert f"{path} cannot be unpacked" in said(path)


def test_a_format_that_is_packed_itself_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet.gz"
    path.write_bytes(b"")
    assert "not from '.parquet.gz' files" in said(path)


def test_empty_fields_at_the_ends_of_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("instruction;output;;\na;b;;\nc;d\ne;f;;;\n")
    assert values(path) == [{"instruction": x, "output": y} for x, y in ("ab", "cd", "ef")]
    path.write_text("instruction;output;;\na;b;;c\n")
    assert "line 2: 4 fields where the header has 2" in said(path)


def test_a_stated_delimiter_is_used_and_lines_are_counted_from_the_top(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("sep=;\ninstruction;output\na, b, c;d\n;e\n")
    assert values(path)[0] == {"instruction": "a, b, c", "output": "d"}
    assert "line 4, column 'instruction': the prompt is empty" in said(path)


@pytest.mark.parametrize(
    "whole",
    [
        {"instruction": ["Why?"], "output": ["So."]},
        {"columns": ["instruction", "output"], "index": [0], "data": [["Why?", "So."]]},
        {"instruction": {"0": "Why?"}, "output": {"0": "So."}},
        {"data": [ROW], "labels": ["a", "b"]},
        {"version": 1, "train": [ROW]},
        {"schema": {"fields": []}, "data": [ROW]},
    ],
)
def test_json_of_every_shape_gives_the_same_rows(whole: Any, tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps(whole))
    assert values(path) == [ROW]


def test_a_split_of_a_file_is_chosen_or_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps({"train": [ROW, ROW], "test": [{**ROW, "output": "Other."}]}))
    assert [row["output"] for row in values(path, split="test")] == ["Other."]
    assert said(path).endswith("train (2), test (1). Choose one with dialogues.hub_split.")
    assert "has no split 'tests' (dialogues.hub_split); it has train (2), test (1). Did you mean 'test'?" in said(
        path, hub_split="tests"
    )


@pytest.mark.parametrize("content", [b"[]", b'{"instruction": "a", "output": "b"}\n{"instruction": "c"}'])
def test_a_split_is_refused_where_a_file_has_none(content: bytes, tmp_path: Path) -> None:
    for name in ("d.json", "d.jsonl"):
        (tmp_path / name).write_bytes(content)
        assert "hub_split: test cannot be used" in said(tmp_path / name, hub_split="test")


def test_a_line_of_a_chosen_split_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps({"train": [ROW], "test": [ROW, {**ROW, "output": ""}]}, indent=1))
    assert f"{path}, line 13, column 'output'" in said(path, hub_split="test")


@pytest.mark.parametrize("levels", [150, 900, 100_000])
@pytest.mark.parametrize("name", ["d.json", "d.jsonl"])
def test_nesting_of_any_depth_is_one_sentence(levels: int, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    row = json.dumps(ROW)[:-1] + ', "extra": ' + "[" * levels + "]" * levels + "}"
    path.write_text(f"[{row}]" if name == "d.json" else row)
    assert "nested too deeply" in said(path)
