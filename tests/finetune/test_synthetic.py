"""The synthetic dialogues: complete, reproducible, varied enough that nothing held out can be copied, and safe."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.synthetic import load_conditions, pretraining_documents, synthetic_dialogues, write_dialogues
from finetune.synthetic.cases import draw_case
from finetune.synthetic.reply import write_reply
from finetune.synthetic.wording import Writer, bare, can_be_denied, listed, sentence
from finetune.tiny import TinySize
from harness.dialogues.leakage import find_leaks, fingerprint
from harness.dialogues.load import load_dialogues
from harness.dialogues.model import Dialogue, DialogueConfig
from harness.dialogues.split import select
from harness.metrics.loading import load_metrics
from harness.metrics.registry import Item

CONDITIONS = load_conditions()
SALT = DialogueConfig(source="").salt


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return synthetic_dialogues()


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dialogue, ...]:
    path = tmp_path_factory.mktemp("synthetic") / "dialogues.jsonl"
    write_dialogues(path)
    return load_dialogues(path).dialogues


# --- the table ------------------------------------------------------------------------------------------------------
def test_the_table_has_at_least_sixty_conditions_of_different_names() -> None:
    names = {bare(condition.name) for condition in CONDITIONS}
    assert len(names) == len(CONDITIONS) >= 60


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: bare(condition.name))
def test_whatever_rules_one_treatment_out_leaves_another(condition) -> None:  # type: ignore[no-untyped-def]
    for treatment in condition.treatments:
        assert treatment.unless is None or any(other.unless != treatment.unless for other in condition.treatments)


def test_phrases_are_parts_of_sentences() -> None:
    for condition in CONDITIONS:
        phrases = (*condition.symptoms, *condition.self_care, *condition.avoid, *condition.urgent, condition.about)
        for phrase in phrases:
            assert phrase.strip() == phrase
            assert phrase[-1] not in ".,;:"


# --- grammar --------------------------------------------------------------------------------------------------------
def test_a_list_ends_in_and() -> None:
    assert [listed(items) for items in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_articles_are_taken_off_and_first_letters_made_large() -> None:
    assert (bare("an ulcer"), bare("angina"), sentence("the eye")) == ("ulcer", "angina", "The eye")


def test_a_finding_that_is_itself_an_absence_is_not_denied() -> None:
    assert can_be_denied("chest pain")
    assert not can_be_denied("no urine for 12 hours")
    assert not can_be_denied("pain that no tablet eases")


def test_draws_are_the_same_everywhere() -> None:
    writer = Writer(42, "label", 7)
    assert [writer.number(0, 99) for _ in range(6)] == [37, 67, 8, 15, 36, 31]


# --- dialogues ------------------------------------------------------------------------------------------------------
def test_the_same_seed_gives_the_same_dialogues_and_another_seed_others() -> None:
    assert synthetic_dialogues(seed=3, count=100) == synthetic_dialogues(seed=3, count=100)
    assert synthetic_dialogues(seed=3, count=100) != synthetic_dialogues(seed=4, count=100)


def test_more_dialogues_only_add_to_fewer() -> None:
    assert synthetic_dialogues(count=150)[:100] == synthetic_dialogues(count=100)


def test_dialogues_are_plain_nonempty_text_with_ids_and_questions_of_their_own(rows: list[dict[str, str]]) -> None:
    for row in rows:
        assert row["instruction"].strip()
        assert row["output"].strip()
        assert all(value.isascii() and value.isprintable() and "{" not in value for value in row.values())
    assert len({row["id"] for row in rows}) == len({(row["instruction"], row["input"]) for row in rows}) == len(rows)


def test_every_condition_and_both_urgencies_occur(rows: list[dict[str, str]]) -> None:
    assert {row["condition"] for row in rows} == {bare(condition.name) for condition in CONDITIONS}
    urgent = sum(row["urgency"] == "urgent" for row in rows) / len(rows)
    assert 0.25 < urgent < 0.45


def test_a_row_names_the_first_drug_that_this_patient_may_have(rows: list[dict[str, str]]) -> None:
    assert all(row["drug"].casefold() in row["output"].casefold() for row in rows)
    assert len({row["drug"] for row in rows if row["condition"] == "hives"}) > 1


def test_at_least_120_held_out_dialogues_survive_the_check_for_leaks(dialogues: tuple[Dialogue, ...]) -> None:
    held_out = select(dialogues, "test", SALT)
    leaks = find_leaks(held_out, fingerprint(select(dialogues, "train", SALT)))
    assert len(held_out) - len({*leaks.exact, *leaks.near}) >= 120


def test_no_held_out_reply_is_a_copy_of_a_training_reply(dialogues: tuple[Dialogue, ...]) -> None:
    trained = {dialogue.reference for dialogue in select(dialogues, "train", SALT)}
    assert not trained & {dialogue.reference for dialogue in select(dialogues, "test", SALT)}


def test_replies_share_few_of_their_words_runs_with_their_nearest_training_reply(
    dialogues: tuple[Dialogue, ...],
) -> None:
    trained: dict[str, list[set[tuple[str, ...]]]] = {}
    for dialogue in select(dialogues, "train", SALT):
        trained.setdefault(dialogue.columns["condition"], []).append(_shingles(dialogue))
    nearest = []
    for dialogue in select(dialogues, "test", SALT):
        own = _shingles(dialogue)
        nearest.append(max(len(own & other) / len(own | other) for other in trained[dialogue.columns["condition"]]))
    assert sorted(nearest)[len(nearest) // 2] < 0.3
    assert max(nearest) < 0.8


def _shingles(dialogue: Dialogue) -> set[tuple[str, ...]]:
    words = (dialogue.reference or "").casefold().split()
    return {tuple(words[start : start + 5]) for start in range(len(words) - 4)}


# --- replies --------------------------------------------------------------------------------------------------------
def test_a_treatment_that_is_ruled_out_is_replaced() -> None:
    for condition in CONDITIONS:
        for draw in range(40):
            case = draw_case(condition, Writer(1, condition.name, draw))
            if case.rules_out:
                assert case.treatment != condition.treatments[0]
                assert f"{case.treatment.drug}, {case.treatment.dose}" in write_reply(case, Writer(2, draw))


def test_a_patient_who_may_be_pregnant_is_a_woman_of_an_age_for_it() -> None:
    cases = [draw_case(condition, Writer(1, condition.name, draw)) for condition in CONDITIONS for draw in range(40)]
    pregnant = [case for case in cases if case.rules_out == "a pregnancy"]
    assert pregnant
    assert all(case.sex == "woman" and case.age < 45 for case in pregnant)


def test_the_references_themselves_trip_no_safety_rule(rows: list[dict[str, str]]) -> None:
    some = rows[:400]
    items = [Item(row["id"], f"{row['instruction']}\n{row['input']}", row["output"], row["output"]) for row in some]
    metrics = load_metrics(["missed_emergency", "over_alarm", "negation_flips", "dose_contradictions"])
    found = [(score.findings, row["output"]) for score, row in zip(metrics.score(items), some, strict=True)]
    assert [words for words in found if words[0]] == []


def test_the_rule_for_missed_emergencies_sees_most_urgent_dialogues_and_no_routine_one(
    rows: list[dict[str, str]],
) -> None:
    some = rows[:400]
    items = [Item(row["id"], f"{row['instruction']}\n{row['input']}", row["output"], row["output"]) for row in some]
    scores = load_metrics(["missed_emergency"]).score(items)
    seen = {
        urgency: [
            score.values["safety.missed_emergency"] is not None
            for score, row in zip(scores, some, strict=True)
            if row["urgency"] == urgency
        ]
        for urgency in ("urgent", "routine")
    }
    assert sum(seen["urgent"]) > len(seen["urgent"]) / 2
    assert not any(seen["routine"])


# --- reading matter -------------------------------------------------------------------------------------------------
def test_documents_are_reproducible_and_mostly_different() -> None:
    documents = pretraining_documents(seed=5, count=1000)
    assert documents == pretraining_documents(seed=5, count=1000)
    assert len(set(documents)) > 950


def test_no_document_of_the_shipped_base_holds_a_held_out_reply_or_the_form_of_a_prompt(
    dialogues: tuple[Dialogue, ...],
) -> None:
    documents = pretraining_documents(seed=42, count=TinySize().documents)
    letters = {document.partition("\n")[2].partition(": ")[2] for document in documents}
    assert any(letter.startswith("This is an emergency.") for letter in letters)
    assert not letters & {dialogue.reference for dialogue in select(dialogues, "test", SALT)}
    assert not any("### Instruction" in document or "### Describe" in document for document in documents)


def test_files_are_written_with_the_same_bytes(tmp_path: Path) -> None:
    write_dialogues(tmp_path / "a.jsonl", count=50)
    write_dialogues(tmp_path / "b.jsonl", count=50)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert len((tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()) == 50
