"""Every row of the table in docs/data.md, run over the file it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from harness.dialogues.load import load_source
from harness.dialogues.model import DialogueSource
from harness.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "tests" / "data" / "layouts"
ROW = re.compile(r"^\| ([^|]+) \| `([^`|]+)` \| (?:`([^`]+)` )?\| ([^|]+) \|$", re.MULTILINE)
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
TABLE = [match.groups() for match in ROW.finditer(PAGE)]


@pytest.mark.parametrize(("data", "file", "keys", "result"), TABLE, ids=[f"{row[1]} {row[3]}" for row in TABLE])
def test_a_row_of_the_page_is_true(data: str, file: str, keys: str | None, result: str) -> None:
    path = FILES / file
    if path.is_dir():
        pytest.importorskip("datasets")
    if file.endswith(".zst"):
        pytest.importorskip("pyarrow")
    settings = yaml.safe_load(keys or "{}")
    refused = result.removeprefix("refused: ")
    if refused != result:
        with pytest.raises((InputError, ValidationError)) as caught:
            load_source(DialogueSource(source=str(path), **settings), path)
        assert refused in str(caught.value)
        return
    loaded = load_source(DialogueSource(source=str(path), **settings), path)
    assert (loaded.layout or "as mapped") == result
    assert all(each.prompt and each.reference for each in loaded.dialogues)


def test_every_file_has_a_row_and_the_page_is_parsed() -> None:
    named = {file for _, file, _, _ in TABLE}
    assert named == {path.name for path in FILES.iterdir()}
    section = PAGE.partition("## Layouts")[2].partition("## Columns")[0]
    assert len(TABLE) == section.count("\n| ") - 1  # the header


def test_the_ten_sets_have_a_row_that_loads() -> None:
    loads = " ".join(data for data, _, _, result in TABLE if not result.startswith("refused"))
    names = ("know_medical_dialogue_v2", "HealthCareMagic", "iCliniq", "ai-medical-chatbot", "MedDialog, English",
             "MedDialog, Chinese", "MedQuAD", "K-QA", "MTS-Dialog", "Huatuo", "HealthBench")  # fmt: skip
    assert [name for name in names if name not in loads] == []
