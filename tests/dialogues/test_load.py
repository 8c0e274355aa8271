"""Loading dialogues: every kind of file, every kind of row, and what is said of those that cannot be used."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.dialogues.load import load_dialogues
from harness.dialogues.model import ColumnMap
from harness.dialogues.turns import LONGEST, Turn
from harness.errors import InputError
from harness.machine import hub_is_reachable
from tests.dialogues.conftest import WriteLines
from tests.shared_data import shared

ROW = {"id": "a", "instruction": "I have a cough.", "input": "For a week.", "output": "Drink tea.", "source": "clinic"}
OTHER = {"id": "b", "instruction": "My knee hurts.", "input": "", "output": "Rest it.", "source": "ward"}


def message(path: Path, columns: ColumnMap | None = None, **options: Any) -> str:
    """Return the error that loading ``path`` raises."""
    with pytest.raises(InputError) as caught:
        load_dialogues(path, columns, **options)
    return str(caught.value)


def as_jsonl(folder: Path) -> Path:
    path = folder / "d.jsonl"
    path.write_text("\n".join(map(json.dumps, (ROW, OTHER))))
    return path


def as_json(folder: Path) -> Path:
    path = folder / "d.json"
    path.write_text(json.dumps([ROW, OTHER], indent=2))
    return path


def as_wrapped_json(folder: Path) -> Path:
    path = folder / "d.json"
    path.write_text(json.dumps({"version": 1, "about": {"by": "us"}, "data": [ROW, OTHER]}, indent=2))
    return path


def as_json_lines_named_json(folder: Path) -> Path:
    return as_jsonl(folder).rename(folder / "d.json")


def as_csv(folder: Path) -> Path:
    path = folder / "d.csv"
    path.write_text(",".join(ROW) + "\r\n" + "".join(",".join(row.values()) + "\r\n" for row in (ROW, OTHER)))
    return path


def as_semicolons(folder: Path) -> Path:
    path = folder / "d.csv"
    path.write_text("\ufeff" + ";".join(ROW) + "\n" + "".join(";".join(row.values()) + "\n" for row in (ROW, OTHER)))
    return path


def as_tsv(folder: Path) -> Path:
    path = folder / "d.tsv"
    path.write_text("\t".join(ROW) + "\n" + "".join("\t".join(row.values()) + "\n" for row in (ROW, OTHER)))
    return path


def as_parquet(folder: Path) -> Path:
    path = folder / "d.parquet"
    pq.write_table(pa.Table.from_pylist([ROW, OTHER]), path)
    return path


@pytest.mark.parametrize(
    "write",
    [
        as_jsonl,
        as_json,
        as_wrapped_json,
        as_json_lines_named_json,
        as_csv,
        as_semicolons,
        as_tsv,
        as_parquet,
    ],
)
def test_every_kind_of_file_gives_the_same_dialogues(write: Any, tmp_path: Path) -> None:
    first, second = load_dialogues(write(tmp_path)).dialogues
    assert (first.id, first.prompt, first.reference) == ("a", "I have a cough.\nFor a week.", "Drink tea.")
    assert (second.id, second.prompt, second.reference) == ("b", "My knee hurts.", "Rest it.")
    assert first.columns == {"source": "clinic"}


def test_a_data_set_saved_to_a_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    saved = datasets.DatasetDict({"train": datasets.Dataset.from_list([ROW, OTHER])})
    saved.save_to_disk(str(tmp_path / "saved"))
    assert [each.id for each in load_dialogues(tmp_path / "saved").dialogues] == ["a", "b"]
    assert "has no split 'tran' (dialogues.hub_split); it has train. Did you mean 'train'?" in message(
        tmp_path / "saved", hub_split="tran"
    )


def test_an_unreachable_hub_is_said_in_one_sentence_and_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("harness.dialogues.hub.hub_is_reachable", lambda: False)
    load, offline = datasets.load_dataset, []

    def watched(source: str, name: str | None) -> Any:
        offline.append((constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE))
        return load(source, name)

    monkeypatch.setattr(datasets, "load_dataset", watched)
    said = message(Path("someone/medical_dialogues_nobody_has"))
    assert offline == [(True, True)]  # a client that may go online retries for half a minute
    assert not constants.HF_HUB_OFFLINE
    assert said.startswith("There is no file 'someone/medical_dialogues_nobody_has', no dataset of that name has been")
    assert "\n" not in said


def test_a_hub_where_nothing_listens_is_not_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert not hub_is_reachable()
        taken.listen()
        assert hub_is_reachable()


def test_a_misspelt_file_is_not_taken_for_a_hub_data_set(tmp_path: Path) -> None:
    path = as_jsonl(tmp_path)
    assert (
        message(path.with_name("e.jsonl")) == f"There is no file '{path.with_name('e.jsonl')}'. Did you mean 'd.jsonl'?"
    )


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.xlsx"
    path.write_bytes(b"PK")
    assert "not from '.xlsx' files" in message(path)


def test_k_qa_columns_can_be_mapped_and_the_others_are_kept(write_lines: WriteLines) -> None:
    row = {"Question": "What is Lexapro?", "Free_form_answer": "An SSRI.", "Must_have": ["SSRI"], "Nice_to_have": []}
    columns = ColumnMap(prompt="Question", reference="Free_form_answer")
    (loaded,) = load_dialogues(write_lines([row]), columns).dialogues
    assert (loaded.prompt, loaded.reference) == ("What is Lexapro?", "An SSRI.")
    assert loaded.columns == {"Must_have": ["SSRI"], "Nice_to_have": []}


def test_columns_that_json_cannot_hold_become_plain(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"instruction": "a", "output": "b", "score": NaN, "huge": 1e999, "n": 3}\n')
    assert load_dialogues(path).dialogues[0].columns == {"score": None, "huge": None, "n": 3}


def test_line_ends_and_outer_white_space_are_normalised(write_lines: WriteLines) -> None:
    (loaded,) = load_dialogues(write_lines([{"instruction": "  a\r\n b\rc \n", "output": "\td\n"}])).dialogues
    assert (loaded.prompt, loaded.reference) == ("a\n b\nc", "d")


def test_lines_are_counted_through_blank_lines_and_quoted_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text('instruction,output\n"one\ntwo","x"\n\nthree,y\n')
    assert [each.line for each in load_dialogues(path).dialogues] == [2, 5]


@pytest.mark.parametrize(
    ("change", "said", "reason"),
    [
        ({"output": ""}, "column 'output': the reference is empty", "empty reference"),
        ({"output": " \n\t "}, "column 'output': the reference is empty", "empty reference"),
        ({"output": None}, "column 'output': the reference is missing", "missing reference"),
        ({"output": 7}, "column 'output': the reference must be a string, not 7", "non-text reference"),
        ({"instruction": {"a": 1}}, "the prompt must be a string, not {'a': 1}", "non-text prompt"),
        ({"instruction": [[]]}, "column 'instruction': the prompt is missing", "missing prompt"),
        ({"instruction": ""}, "column 'instruction': the prompt is empty", "empty prompt"),
        ({"input": 3.5}, "column 'input': the input must be a string, not 3.5", "non-text input"),
        (
            {"output": "a\x00b"},
            "the reference contains a NUL character at character 2",
            "invalid characters in reference",
        ),
        ({"output": "a\ud800"}, "contains bytes or escapes that are not Unicode", "invalid characters in reference"),
        ({"output": "x" * (LONGEST + 1)}, "the reference has 1,000,001 characters, more than", "too long reference"),
    ],
)
def test_a_bad_row_names_file_line_and_column_or_is_counted(
    change: dict[str, Any], said: str, reason: str, write_lines: WriteLines
) -> None:
    path = write_lines([ROW, {**OTHER, **change}])
    found = message(path)
    assert found.startswith(f"{path}, line 2, column ")
    assert said in found
    loaded = load_dialogues(path, on_invalid="skip")
    assert [each.id for each in loaded.dialogues] == ["a"]
    assert loaded.invalid == {reason: 1}


def test_a_row_without_the_column_is_an_error_of_its_line(write_lines: WriteLines) -> None:
    path = write_lines([ROW, {"id": "b", "instruction": "x"}])
    assert f"{path}, line 2, column 'output': the reference is missing." in message(path)


@pytest.mark.parametrize(
    ("line", "said", "reason"),
    [
        (b'{"instruction": "a", "outp', "not JSON (Unterminated string", "not JSON"),
        (b'["a", "b"]', "expected an object with columns, found a list", "not an object"),
        (b'{"instruction": "\xff", "output": "b"}', "byte 18 is not UTF-8 text", "not UTF-8"),
        (b"[" * 100_000, "not JSON (nested too deeply)", "not JSON"),
    ],
)
def test_a_line_that_is_no_row_is_an_error_or_counted(line: bytes, said: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(json.dumps(ROW).encode() + b"\n" + line + b"\n")
    assert f"{path}, line 2: {said}" in message(path)
    assert load_dialogues(path, on_invalid="skip").invalid == {reason: 1}


def test_a_mapped_column_that_is_nowhere_is_named_with_the_nearest_one(write_lines: WriteLines) -> None:
    path = write_lines([{"instructions": "a", "output": "b"}])
    assert message(path) == (
        f"{path} has no column 'instruction', which dialogues.columns.prompt requires. "
        "Did you mean 'instructions'? Its columns are: instructions, output."
    )


@pytest.mark.parametrize("role", ["input", "id", "turns", "conversation"])
def test_an_optional_column_must_be_there_once_it_is_mapped(role: str, write_lines: WriteLines) -> None:
    path = write_lines([{"instruction": "a", "output": "b"}])
    assert f"'{role}_x', which dialogues.columns.{role} requires" in message(path, ColumnMap(**{role: f"{role}_x"}))


def test_without_need_of_a_reference_a_missing_one_is_none(write_lines: WriteLines) -> None:
    path = write_lines(
        [{"instruction": "a"}, {"instruction": "b", "output": None}, {"instruction": "c", "output": "d"}]
    )
    loaded = load_dialogues(path, need_reference=False)
    assert [each.reference for each in loaded.dialogues] == [None, None, "d"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty."),
        (b"\xef\xbb\xbf \r\n", "is empty."),
        ("[]".encode("utf-16"), "contains no dialogues."),
        (b"[]", "contains no dialogues."),
        (b'{"a": 1}', "expected a list of dialogues, or an object that contains one."),
        (b'"text"', "expected a list of dialogues"),
        (b'[{"a": 1},\n{"b": 2]', "line 2: not JSON"),
        (b'[{"a": 1}\n{"b": 2}]', "line 2: not JSON (Expecting ',' delimiter)."),
        (b'[{"a": 1},\n', "line 2: not JSON"),
        (b'[{"a": 1}]\n[{"b": 2}]', "line 2: not JSON (Extra data)."),
        (b"[\n\xff]", "line 2: not UTF-8 text"),
        (b"[" * 100_000, "not JSON (nested too deeply)"),
    ],
)
def test_a_json_file_that_cannot_be_used_is_said_why(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_bytes(content)
    assert said in message(path)


def test_a_row_of_a_json_array_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps([ROW, {**OTHER, "output": ""}], indent=1))
    assert f"{path}, line 9, column 'output'" in message(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"instruction,output\n", "contains no dialogues"),
        (b"instruction,output,output\na,b,c\n", "line 1: the column name 'output' is repeated"),
        (b"instruction,output\na,b\nc\n", "line 3: 1 fields where the header has 2"),
        (b'instruction,output\na,b\n"c,d\n', "line 3: not valid CSV"),
        (b"instruction,output\na,\xff\n", "line 2, column 'output': the reference contains bytes"),
        (b"instruction,output\na,b\x00\n", "line 2, column 'output': the reference contains a NUL"),
    ],
)
def test_a_csv_file_that_cannot_be_used_is_said_why(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(content)
    assert said in message(path)


def test_a_csv_field_may_be_long(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(f"instruction,output\na,{'b ' * 200_000}\n")
    assert len(load_dialogues(path).dialogues[0].reference or "") == 399_999


def test_a_damaged_parquet_file_is_said_to_be_one(tmp_path: Path) -> None:
    path = as_parquet(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    assert f"{path} is not a readable Parquet file" in message(path)


def test_a_file_in_which_nothing_can_be_used_says_what_was_found(write_lines: WriteLines) -> None:
    path = write_lines([{**ROW, "output": ""}, {**OTHER, "output": 1}])
    said = message(path, on_invalid="skip")
    assert "contains no usable dialogues (empty reference: 1, non-text reference: 1)" in said


class TestTurns:
    """Dialogues of several turns."""

    TALK = (
        {"role": "user", "content": "I cough."},
        {"role": "assistant", "content": "Since when?"},
        {"role": "Patient", "content": "A week."},
        {"role": "patient", "content": "And I am tired."},
        {"role": "doctor", "content": "Drink tea."},
        {"role": "human", "content": "Thanks."},
    )

    def test_the_last_doctor_turn_is_the_reference(self, write_lines: WriteLines) -> None:
        (loaded,) = load_dialogues(write_lines([{"id": "t", "turns": self.TALK}])).dialogues
        assert loaded.reference == "Drink tea."
        assert loaded.turns == (
            Turn("patient", "I cough."),
            Turn("doctor", "Since when?"),
            Turn("patient", "A week.\nAnd I am tired."),
        )
        assert loaded.prompt == "Patient: I cough.\nDoctor: Since when?\nPatient: A week.\nAnd I am tired."

    def test_a_single_turn_is_a_prompt_without_speaker(self, write_lines: WriteLines) -> None:
        talk = [{"from": "human", "value": "I cough."}, {"from": "gpt", "value": "Drink tea."}]
        path = write_lines([{"conversations": talk}])
        (loaded,) = load_dialogues(path, ColumnMap(turns="conversations")).dialogues
        assert (loaded.prompt, loaded.reference) == ("I cough.", "Drink tea.")

    def test_turns_and_plain_rows_may_stand_in_one_file(self, write_lines: WriteLines) -> None:
        path = write_lines([{"turns": self.TALK}, {**ROW, "turns": None}])
        assert [each.reference for each in load_dialogues(path).dialogues] == ["Drink tea.", "Drink tea."]

    def test_turns_survive_csv_and_parquet(self, tmp_path: Path) -> None:
        pq.write_table(pa.Table.from_pylist([{"turns": list(self.TALK)}]), tmp_path / "d.parquet")
        columnar = {key: [turn[key] for turn in self.TALK] for key in ("role", "content")}
        pq.write_table(pa.Table.from_pylist([{"turns": columnar}]), tmp_path / "e.parquet")
        quoted = json.dumps(self.TALK).replace('"', '""')
        (tmp_path / "d.csv").write_text(f'id,turns\nt,"{quoted}"\n')
        loaded = [load_dialogues(tmp_path / name).dialogues[0] for name in ("d.parquet", "e.parquet", "d.csv")]
        assert len({each.prompt for each in loaded}) == 1

    @pytest.mark.parametrize(
        ("turns", "said"),
        [
            ("no list", "the turns are not valid JSON"),
            ([1], "turn 1 is not an object with role and content"),
            (
                [{"role": "nurse", "content": "a"}],
                "turn 1 has the role 'nurse'; the roles are patient, doctor and system",
            ),
            ([{"role": "user", "content": "a"}], "the doctor has no turn"),
            ([{"role": "doctor", "content": "a"}], "the patient says nothing before the doctor's last turn"),
            ([{"role": "user", "content": ""}], "the content of turn 1 is empty"),
            ([{"role": "user"}], "the content of turn 1 is missing"),
        ],
    )
    def test_malformed_turns_name_line_and_column(self, turns: Any, said: str, write_lines: WriteLines) -> None:
        path = write_lines([{"turns": turns}])
        assert f"{path}, line 1, column 'turns': {said}" in message(path)

    def test_without_need_of_a_reference_the_patient_may_have_the_last_word(self, write_lines: WriteLines) -> None:
        (loaded,) = load_dialogues(write_lines([{"turns": self.TALK}]), need_reference=False).dialogues
        assert loaded.reference is None
        assert loaded.prompt.endswith("Patient: Thanks.")

    def test_a_conversation_is_taken_from_its_column(self, write_lines: WriteLines) -> None:
        path = write_lines([{"turns": self.TALK, "conversation": 12}, {**ROW, "conversation": ["not", "an", "id"]}])
        first, second = load_dialogues(path).dialogues
        assert (first.conversation, first.columns) == ("12", {})
        assert (second.conversation, second.columns["conversation"]) == (None, ["not", "an", "id"])


class TestIds:
    """Every dialogue has an id of its own, which does not depend on its place."""

    def test_ids_made_from_content_do_not_depend_on_order(self, write_lines: WriteLines) -> None:
        rows = [{"instruction": f"question {n}", "output": "answer"} for n in range(5)]
        ids = {each.prompt: each.id for each in load_dialogues(write_lines(rows)).dialogues}
        random.Random(1).shuffle(rows)
        assert {each.prompt: each.id for each in load_dialogues(write_lines(rows)).dialogues} == ids
        assert len(set(ids.values())) == 5

    def test_an_id_on_several_rows_is_told_apart_by_content(self, write_lines: WriteLines) -> None:
        rows = [ROW, {**OTHER, "id": "a"}, {**OTHER, "id": "c"}]
        loaded = load_dialogues(write_lines(rows))
        ids = {each.prompt: each.id for each in loaded.dialogues[:2]}
        assert all(name.startswith("a~") for name in ids.values())
        assert loaded.dialogues[2].id == "c"
        turned = load_dialogues(write_lines(rows[1::-1]))
        assert {each.prompt: each.id for each in turned.dialogues} == ids

    def test_equal_rows_are_numbered(self, write_lines: WriteLines) -> None:
        loaded = load_dialogues(write_lines([{**ROW, "id": ""}] * 3)).dialogues
        stem = loaded[0].id
        assert [each.id for each in loaded] == [stem, f"{stem}-2", f"{stem}-3"]

    def test_whole_numbers_are_ids(self, write_lines: WriteLines) -> None:
        assert load_dialogues(write_lines([{**ROW, "id": 7}])).dialogues[0].id == "7"


def test_the_digest_is_the_file_s(tmp_path: Path) -> None:
    path = as_jsonl(tmp_path)
    before = load_dialogues(path).digest
    path.write_text(path.read_text() + "\n")
    assert load_dialogues(path).digest != before


def test_loading_a_file_imports_neither_torch_nor_datasets(tmp_path: Path) -> None:
    code = (
        "import sys, harness.dialogues.load, harness.dialogues.prompts, harness.dialogues.leakage\n"
        f"harness.dialogues.load.load_dialogues({str(as_jsonl(tmp_path))!r})\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.shared
def test_real_data_with_repeated_ids_loads_whole() -> None:
    loaded = load_dialogues(shared("data/medquad-treatments/medquad_treatments.jsonl"))
    assert len({each.id for each in loaded.dialogues}) == 2442


@pytest.mark.shared
def test_real_questions_with_claims_keep_their_claims() -> None:
    columns = ColumnMap(prompt="Question", reference="Free_form_answer")
    loaded = load_dialogues(shared("data/k-qa/questions_w_answers.jsonl"), columns)
    assert len(loaded.dialogues) == 201
    assert all(each.columns["Must_have"] for each in loaded.dialogues)
