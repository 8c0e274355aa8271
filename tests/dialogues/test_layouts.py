"""What is read from each layout, and that a column map is used or refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.dialogues.load import LoadedDialogues, load_dialogues
from harness.dialogues.model import ColumnMap, Dialogue
from harness.dialogues.split import select
from harness.dialogues.turns import Turn
from harness.errors import InputError
from tests.dialogues.conftest import WriteLines
from tests.shared_data import shared

FILES = Path(__file__).resolve().parents[1] / "data" / "layouts"
QUESTION = "I am 30 and have had migraine for 2 weeks, what could help me at home and when do I need a visit number 0?"
ANSWER = (
    "For migraine I would begin with rest and plenty of water; if it does not improve within 3 days please come back "
    "so that we can examine you properly."
)
TALK = [
    {"role": "user", "content": "I cough."},
    {"role": "assistant", "content": "Since when?"},
    {"role": "user", "content": "A week."},
]


def first(name: str, **columns: str | None) -> Dialogue:
    return load_dialogues(FILES / name, ColumnMap(**columns)).dialogues[0]


def load(write_lines: WriteLines, *rows: dict[str, Any], **columns: str | None) -> LoadedDialogues:
    return load_dialogues(write_lines(rows), ColumnMap(**columns))


def refusal(write_lines: WriteLines, *rows: dict[str, Any], **columns: str | None) -> str:
    with pytest.raises(InputError) as caught:
        load(write_lines, *rows, **columns)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("messages.jsonl", {}),
        ("messages_parts.jsonl", {}),
        ("trl_prompt_completion.jsonl", {}),
        ("meddialog_en.jsonl", {}),
        ("meddialog_hf_en.jsonl", {}),
        ("inst_text.jsonl", {}),
        ("multi_ref.jsonl", {}),
        ("healthbench.jsonl", {}),
        ("icliniq.json", {"prompt": "input", "reference": "answer_icliniq"}),
        ("turn_count.jsonl", {}),
        ("float_ids.jsonl", {}),
        ("mongo.jsonl", {}),
    ],
)
def test_the_same_dialogue_is_read_from_every_layout(name: str, columns: dict[str, str | None]) -> None:
    found = first(name, **columns)
    assert (found.prompt, found.reference) == (QUESTION, ANSWER)


def test_all_turns_of_a_prompt_are_asked_and_the_ideal_answer_is_the_reference() -> None:
    second = load_dialogues(FILES / "healthbench.jsonl").dialogues[1]
    assert [turn.role for turn in second.turns] == ["patient", "doctor", "patient"]
    assert (second.turns[0].content, second.id) == ("Hi.", "p1")
    assert second.turns[2].content.startswith("I am 31 and have had eczema")
    assert (second.reference or "").startswith("For eczema I would begin")
    assert second.columns["rubrics"] == [{"criterion": "advises rest", "points": 3, "tags": []}]


def test_a_reference_column_beside_turns_is_used_and_no_question_dropped() -> None:
    found = first("prompt_turns_plus_answer.jsonl", turns="prompt", reference="ideal")
    assert (found.turns[-1], found.reference) == (Turn("patient", QUESTION), ANSWER)
    assert len(found.turns) == 3


def test_system_and_history_come_before_the_question() -> None:
    found = first("llamafactory_history.jsonl")
    assert found.turns == (
        Turn("system", "You are a doctor."),
        Turn("patient", QUESTION),
        Turn("doctor", "Take the tablets we spoke of."),
        Turn("patient", "How long should I take it?"),
    )
    assert found.prompt.startswith("Note: You are a doctor.\nPatient: I am 30")
    assert (found.reference, found.columns) == (ANSWER, {})


def test_chinese_speakers_are_known_in_every_form() -> None:
    for name in ("meddialog_zh.jsonl", "meddialog_hf_zh.jsonl"):
        assert (first(name).prompt, first(name).reference) == ("我头痛2天了，怎么办？", "请多休息，3天后复查。")
    assert (first("huatuo_sft.jsonl").prompt, first("huatuo_sft.jsonl").reference) == (
        "头痛第0天怎么办？",
        "请多休息，必要时来医院检查。",
    )


def test_of_several_phrasings_the_first_is_asked() -> None:
    assert (first("huatuo.jsonl").prompt, first("huatuo.jsonl").turns) == ("头痛怎么办？", ())


def test_several_answers_are_several_references() -> None:
    assert first("multi_ref.jsonl").further_references == (ANSWER.upper(),)


def test_chatml_and_a_system_block_of_llama_2_are_turns(write_lines: WriteLines) -> None:
    assert [turn.role for turn in first("im_text.jsonl").turns] == ["system", "patient"]
    text = (
        "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nI cough. [/INST] Since when? </s><s>[INST] A week. [/INST] Tea.</s>"
    )
    (found,) = load(write_lines, {"text": text}).dialogues
    assert [(turn.role, turn.content) for turn in found.turns] == [
        ("system", "Be kind."),
        ("patient", "I cough."),
        ("doctor", "Since when?"),
        ("patient", "A week."),
    ]
    assert found.reference == "Tea."
    said = refusal(write_lines, {"text": "Below is a task. [INST] I cough. [/INST] Tea."})
    assert "column 'text': text stands outside the marks of the turns" in said


def test_a_transcript_is_turns_where_it_is_mapped_as_such() -> None:
    found = first("mts_dialog.csv", turns="dialogue", id="ID")
    assert [turn.role for turn in found.turns] == ["doctor", "patient"]
    assert found.turns[1].content.endswith("what helps at home?\nIt began at work.")
    assert (found.reference or "").startswith("Rest and drink water")


def test_a_column_under_a_default_name_is_not_put_in_twice(write_lines: WriteLines) -> None:
    (found,) = load(write_lines, {"input": "Why?", "output": "So."}, prompt="input").dialogues
    assert found.prompt == "Why?"


def test_a_column_with_two_roles_is_refused() -> None:
    with pytest.raises(ValidationError, match="the column 'a' is both prompt and turns; give it one role"):
        ColumnMap(prompt="a", turns="a")


def test_a_mapped_prompt_goes_before_a_column_of_turns(write_lines: WriteLines) -> None:
    row = {"question": "Why?", "output": "So.", "turns": TALK}
    assert load(write_lines, row, prompt="question").dialogues[0].prompt == "Why?"
    assert load(write_lines, row, prompt="question", turns=None).dialogues[0].prompt == "Why?"
    said = refusal(write_lines, row, prompt="question", turns="turns")
    assert "column 'question': the row also has turns in 'turns', so it has two prompts" in said


def test_a_mapped_reference_is_added_to_a_recognised_layout(write_lines: WriteLines) -> None:
    loaded = load(write_lines, {"messages": TALK, "gold": "Tea."}, reference="gold")
    assert loaded.layout == "OpenAI messages"
    assert (loaded.dialogues[0].turns[-1].content, loaded.dialogues[0].reference) == ("A week.", "Tea.")


def test_turns_that_the_doctor_ends_are_refused_beside_a_reference_column(write_lines: WriteLines) -> None:
    said = refusal(write_lines, {"messages": TALK[:2], "gold": "Tea."}, reference="gold")
    assert "column 'messages': the doctor has the last turn, although another column has the reference" in said


def test_turns_that_end_with_a_question_take_the_usual_reference_column(write_lines: WriteLines) -> None:
    (found,) = load(write_lines, {"turns": TALK, "output": "Tea."}).dialogues
    assert (found.turns[-1].content, found.reference) == ("A week.", "Tea.")


def test_a_medical_history_and_an_organ_system_are_no_turns(write_lines: WriteLines) -> None:
    row = {"instruction": "Why?", "output": "So.", "history": "He has had asthma since childhood.", "system": "ear"}
    loaded = load(write_lines, row)
    assert loaded.dialogues[0].prompt == "Why?"
    assert "neither prompt nor reference: 'history'." in loaded.notes[1]
    assert load(write_lines, row, system="system").dialogues[0].prompt == "Note: ear\nPatient: Why?"


def test_unused_columns_with_text_or_turns_are_named_once(write_lines: WriteLines) -> None:
    row = {"instruction": "Why?", "output": "So.", "source": "NIH", "note": "seen twice by two doctors", "chat": TALK}
    loaded = load(write_lines, row, row)
    assert loaded.notes[0].endswith("dialogues.jsonl is read as instruction, input and output.")
    assert loaded.notes[1:] == (
        "Columns with text or turns that are part of neither prompt nor reference: 'note', 'chat'.",
    )


def test_what_a_dialogue_leaves_out_of_its_row_is_counted(write_lines: WriteLines) -> None:
    loaded = load(write_lines, *[{"messages": TALK}] * 2, {"messages": TALK[:2]})
    assert loaded.notes[1:] == ("In 2 dialogues the patient speaks after the doctor's last turn, which is not used.",)
    assert load_dialogues(FILES / "huatuo.jsonl").notes[1] == "In 12 dialogues the first of several phrasings is asked."


def test_a_column_name_of_another_encoding_can_be_printed(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes("instruction,output,Erklärung\na,b,one two three four five\n".encode("cp1252"))
    assert load_dialogues(path).notes[1].endswith("'Erkl\\udce4rung'.")


def test_a_reference_that_is_switched_off_is_that_of_the_turns(write_lines: WriteLines) -> None:
    (found,) = load(write_lines, {"messages": TALK[:2], "output": "Tea."}, reference=None).dialogues
    assert found.reference == "Since when?"
    said = refusal(write_lines, {"instruction": "Why?", "output": "So."}, reference=None)
    assert said.endswith("no column has the reference. Name it in dialogues.columns.reference.")


def test_ids_under_the_usual_name_may_be_anything_and_are_made_from_the_content() -> None:
    assert first("float_ids.jsonl").id == first("mongo.jsonl").id == first("turn_count.jsonl").id
    assert first("float_ids.jsonl").columns["id"] == 0.0


def test_a_content_part_that_is_no_text_is_refused(write_lines: WriteLines) -> None:
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}, *TALK[1:2]]
    assert "the content of turn 1 has a part that is not text" in refusal(write_lines, {"messages": picture})


def test_a_completion_of_two_messages_is_refused(write_lines: WriteLines) -> None:
    row = {"prompt": TALK[:1], "completion": [TALK[1], TALK[2]]}
    assert "column 'completion': the reference must be one message of the assistant" in refusal(write_lines, row)


@pytest.mark.shared
def test_real_mts_dialogues_are_read_as_turns_and_as_notes() -> None:
    path = shared("data/mts-dialog/MTS-Dialog-TestSet-1-MEDIQA-Chat-2023.csv")
    notes = load_dialogues(path, ColumnMap(prompt="dialogue", reference="section_text", id="ID"))
    assert len(notes.dialogues) == 200
    turns = load_dialogues(path, ColumnMap(turns="dialogue", id="ID"), on_invalid="skip")
    assert len(turns.dialogues) + sum(turns.invalid.values()) == 200
    assert len(turns.dialogues) > 150


@pytest.mark.shared
def test_real_questions_and_answers_keep_ids_and_splits_of_before() -> None:
    """Ids and splits as they were before layouts were recognised: run folders and baselines depend on them."""
    loaded = load_dialogues(shared("data/medquad-treatments/medquad_treatments.jsonl"))
    assert loaded.layout == "instruction, input and output"
    held_out = select(loaded.dialogues, "test", "medical-dialogue-harness")
    assert (len(loaded.dialogues), len(held_out), loaded.dialogues[0].id) == (2442, 304, "0000001_1-7")
    ids = "\n".join(each.id for each in held_out)
    assert hashlib.sha256(ids.encode()).hexdigest().startswith("9ba8838b8274c5e7")
