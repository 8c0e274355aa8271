"""From config to rendered held-out dialogues: split, leakage, limit, template warnings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.config import RunConfig
from harness.dialogues.leakage import FILE_NAME, fingerprint
from harness.dialogues.load import load_dialogues
from harness.dialogues.model import ColumnMap, DialogueConfig
from harness.dialogues.split import select
from harness.errors import InputError
from harness.jobs.inputs import dialogue_config, held_out
from harness.store.schema import ChatText
from harness.variants.artifacts import ADAPTER_FACTS
from harness.variants.model import SplitFacts, Variant, VariantsFile
from harness.variants.resolve import ResolvedVariants
from tests.dialogues.chat_templates import SPACED, with_template

SALT = "medical-dialogue-harness"
BASE = Variant(name="base", kind="base", model="m")


def rows(count: int = 200) -> list[dict[str, Any]]:
    return [
        {"instruction": f"What helps against complaint number {n}?", "input": "",
         "output": f"Rest and drink for complaint {n}, then see a doctor after {n} days if nothing gets better."}
        for n in range(count)
    ]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    return path


def config(data: Path, **changes: Any) -> RunConfig:
    dialogues = DialogueConfig(source=str(data), **changes.pop("dialogues", {}))
    return RunConfig(variants=(BASE,), dialogues=dialogues, **changes)


def no_tokenizer() -> Any:
    raise AssertionError("this template needs no tokenizer")


def plain() -> ResolvedVariants:
    return ResolvedVariants((BASE,), None, None)


def trained(tmp_path: Path, data: Path, count: int) -> ResolvedVariants:
    """Variants whose training saw the first ``count`` of the held-out dialogues."""
    dialogues = select(load_dialogues(data).dialogues, "test", SALT)
    fingerprint(dialogues[:count]).save(tmp_path / FILE_NAME)
    manifest = VariantsFile(schema=1, variants=(BASE,), fingerprints=FILE_NAME)
    return ResolvedVariants((BASE,), manifest, tmp_path)


def test_fingerprints_beside_an_adapter_that_is_listed_by_hand_are_used(data: Path, tmp_path: Path) -> None:
    dialogues = select(load_dialogues(data).dialogues, "test", SALT)
    fingerprint(dialogues[:2]).save(tmp_path / "adapter" / FILE_NAME)
    listed = Variant(name="mine", kind="adapter", model="m", adapter=str(tmp_path / "adapter"))
    found = held_out(config(data), ResolvedVariants((BASE, listed), None, None), no_tokenizer)
    assert found.counts["leakage"] == {"checked": True, "exact": 2, "near": 0, "dropped": 2}


def test_only_the_test_split_is_measured(data: Path) -> None:
    found = held_out(config(data), plain(), no_tokenizer)
    assert 5 < len(found.rows) < 45
    assert found.counts["loaded"] == 200
    assert found.counts["measured"] == len(found.rows)


def test_split_all_takes_every_row(data: Path) -> None:
    assert len(held_out(config(data, dialogues={"split": "all"}), plain(), no_tokenizer).rows) == 200


def test_limit_takes_a_sample_by_seed_in_the_order_of_the_data(data: Path) -> None:
    everything = [row.id for row in held_out(config(data), plain(), no_tokenizer).rows]
    samples = {}
    for seed in (1, 2, 3):
        taken = held_out(config(data, limit=4, seed=seed), plain(), no_tokenizer)
        samples[seed] = [row.id for row in taken.rows]
        assert taken.counts["limited_to"] == 4
        assert samples[seed] == [each for each in everything if each in samples[seed]]
        fewer = held_out(config(data, limit=2, seed=seed), plain(), no_tokenizer).rows
        assert {row.id for row in fewer} < set(samples[seed])
    assert len({*map(tuple, samples.values()), tuple(everything[:4])}) == 4


def test_a_run_says_how_the_data_were_read(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"question": "Why?", "answers": ["So.", "Thus."]}\n', encoding="utf-8")
    found = held_out(config(path, dialogues={"split": "all", "references": "mean"}), plain(), no_tokenizer)
    assert found.notes == (
        f"{path} is read as questions and answers.",
        "1 dialogues have several references: their mean counts (dialogues.references).",
    )
    assert found.counts["layout"] == "questions and answers"
    assert found.rows[0].further_references == ("Thus.",)


def test_what_a_recipe_mapped_itself_is_mapped_again_and_nothing_else(tmp_path: Path) -> None:
    split = SplitFacts(
        source="o/n",
        source_digest="x",
        salt="s",
        mapped={"reference": "gold"},
        switched_off=("turns",),
        encoding="cp1252",
    )
    manifest = VariantsFile(schema=1, variants=(BASE,), split=split)
    chosen = dialogue_config(RunConfig(variants=(BASE,)), ResolvedVariants((BASE,), manifest, tmp_path))
    assert chosen.columns.model_dump(exclude_unset=True) == {"turns": None, "reference": "gold"}
    assert (chosen.hub_split, chosen.encoding) == (None, "cp1252")


def test_prompt_is_rendered_and_reference_kept(data: Path) -> None:
    row = held_out(config(data, dialogues={"split": "all"}), plain(), no_tokenizer).rows[7]
    assert row.prompt.startswith("### Instruction:")
    assert "complaint number 7?" in row.prompt
    assert row.reference == rows()[7]["output"]


def turns(*roles: str) -> list[dict[str, str]]:
    return [{"role": role, "content": f"{role} speaks"} for role in (*roles, "doctor")]


def test_a_chat_template_joins_prompt_and_reference(data: Path) -> None:
    found = held_out(config(data, prompt="chat", limit=1), plain(), lambda: with_template(SPACED))
    prompt, reference, chat = found.rows[0].prompt, found.rows[0].reference, found.rows[0].chat
    assert prompt.endswith("[/ASK]")
    assert chat == ChatText(context=f"{prompt} ", reference=reference)
    assert (found.template_date, held_out(config(data), plain(), no_tokenizer).rows[0].chat) == (None, None)


def test_the_date_that_a_chat_template_is_given_is_recorded(data: Path) -> None:
    asking = with_template("{{ strftime_now('%Y') }}" + SPACED)
    found = held_out(config(data, prompt="chat"), plain(), lambda: asking)
    assert found.template_date == "01 Jan 2026"
    assert found.rows[0].prompt.startswith("2026<s>")
    stated = config(data, prompt="chat", chat_template={"date_string": "26 Nov 2026"})
    assert held_out(stated, plain(), lambda: asking).template_date == "26 Nov 2026"


def test_dialogues_that_the_template_refuses_are_an_error_or_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "turns.jsonl"
    said = [turns("patient"), turns("system", "patient"), turns("doctor", "patient"), turns("patient")]
    path.write_text("".join(json.dumps({"id": n, "turns": one}) + "\n" for n, one in enumerate(said)))
    settings: dict[str, Any] = {"split": "all", "on_invalid": "skip"}
    found = held_out(config(path, prompt="chat", dialogues=settings), plain(), lambda: with_template(SPACED))
    assert [row.id for row in found.rows] == ["0", "3"]
    assert (found.counts["invalid"], found.counts["measured"]) == ({"refused by the template": 2}, 2)
    with pytest.raises(InputError, match=r"dialogue '1' \(no system role\)\. It has a system turn"):
        held_out(config(path, prompt="chat", dialogues={"split": "all"}), plain(), lambda: with_template(SPACED))
    path.write_text(json.dumps({"turns": said[1]}) + "\n")
    with pytest.raises(InputError, match="the prompt 'chat' refuses all 1 dialogues"):
        held_out(config(path, prompt="chat", dialogues=settings), plain(), lambda: with_template(SPACED))


def test_a_template_is_found_beside_the_config(tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "mine.jinja").write_text("Q: {{ condition }}\nA: ", encoding="utf-8")
    found = held_out(config(data, prompt="mine.jinja"), plain(), no_tokenizer, folder)
    assert found.rows[0].prompt.startswith("Q: What helps")


def test_trained_dialogues_are_dropped_and_counted(tmp_path: Path, data: Path) -> None:
    before = held_out(config(data), plain(), no_tokenizer).rows
    found = held_out(config(data), trained(tmp_path, data, 4), no_tokenizer)
    assert found.rows == before[4:]
    assert found.counts["leakage"] == {"checked": True, "exact": 4, "near": 0, "dropped": 4}
    assert any("4 are in the training data" in warning for warning in found.warnings)


def test_leak_can_be_an_error(tmp_path: Path, data: Path) -> None:
    with pytest.raises(InputError, match="4 are in the training data"):
        held_out(config(data, dialogues={"leakage": "error"}), trained(tmp_path, data, 4), no_tokenizer)


def test_leak_can_be_measured_with_a_warning(tmp_path: Path, data: Path) -> None:
    found = held_out(config(data, dialogues={"leakage": "warn"}), trained(tmp_path, data, 4), no_tokenizer)
    assert found.counts["leakage"]["dropped"] == 0
    assert any("measured anyway" in warning for warning in found.warnings)


def test_all_held_out_dialogues_trained_on_is_an_error_with_the_counts(tmp_path: Path, data: Path) -> None:
    with pytest.raises(InputError, match="no dialogues are left to measure"):
        held_out(config(data), trained(tmp_path, data, 1000), no_tokenizer)


def test_unchecked_leakage_is_said(data: Path) -> None:
    assert any(
        "leakage was not checked" in warning for warning in held_out(config(data), plain(), no_tokenizer).warnings
    )


def test_an_adapter_of_which_nothing_is_known_is_named_where_others_are_checked(tmp_path: Path, data: Path) -> None:
    dialogues = select(load_dialogues(data).dialogues, "test", SALT)
    fingerprint(dialogues[:2]).save(tmp_path / "a" / FILE_NAME)
    (tmp_path / "b").mkdir()
    both = tuple(Variant(name=name, kind="adapter", model="m", adapter=str(tmp_path / name)) for name in "ab")
    found = held_out(config(data), ResolvedVariants((BASE, *both), None, None), no_tokenizer)
    leakage = {"checked": True, "not_checked": ["b"], "exact": 2, "near": 0, "dropped": 2}
    assert found.counts["leakage"] == leakage
    assert "Leakage was not checked for 'b', because the training dialogues are unknown." in found.warnings


def test_another_template_than_the_trained_one_is_said_loudly(data: Path) -> None:
    variant = BASE.model_copy(update={"template": "know-medical-verbatim", "template_digest": "0" * 64})
    found = held_out(config(data), ResolvedVariants((variant,), None, None), no_tokenizer)
    assert any("trained with the prompt 'know-medical-verbatim'" in warning for warning in found.warnings)


@pytest.fixture
def listed(tmp_path: Path) -> ResolvedVariants:
    """Variants as a config lists them: all that is known of the training lies beside the adapter."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    return ResolvedVariants((BASE, Variant(name="a", kind="adapter", model="m", adapter=str(adapter))), None, None)


def test_what_lies_beside_a_listed_adapter_says_what_it_was_trained_on(listed: ResolvedVariants, data: Path) -> None:
    dialogues = select(load_dialogues(data).dialogues, "test", SALT)
    fingerprint(dialogues[:4]).save(Path(str(listed.variants[1].adapter)) / FILE_NAME)
    found = held_out(config(data), listed, no_tokenizer)
    assert found.counts["leakage"] == {"checked": True, "exact": 4, "near": 0, "dropped": 4}


def test_what_lies_beside_a_listed_adapter_says_which_template_it_was_trained_with(
    listed: ResolvedVariants, data: Path
) -> None:
    facts = {"template": "know-medical-verbatim", "template_digest": "0" * 64}
    (Path(str(listed.variants[1].adapter)) / ADAPTER_FACTS).write_text(json.dumps(facts), encoding="utf-8")
    found = held_out(config(data), listed, no_tokenizer)
    assert any("trained with the prompt 'know-medical-verbatim'" in warning for warning in found.warnings)


def test_without_dialogues_in_the_config_the_training_s_held_out_part_is_taken(tmp_path: Path, data: Path) -> None:
    split = SplitFacts(source="data.jsonl", source_digest="x", salt=SALT)
    manifest = VariantsFile(schema=1, variants=(BASE,), split=split)
    resolved = ResolvedVariants((BASE,), manifest, tmp_path)
    found = held_out(RunConfig(variants=(BASE,)), resolved, no_tokenizer)
    assert found.rows == held_out(config(data), plain(), no_tokenizer).rows


def test_the_training_s_held_out_part_is_read_as_the_training_read_it(tmp_path: Path) -> None:
    columns = {key: name for key, name in ColumnMap(prompt="question").model_dump().items() if key != "input"}
    split = SplitFacts(
        source="o/n", source_digest="x", salt="s", columns=columns, hub_split="validation", on_invalid="skip"
    )
    manifest = VariantsFile(schema=1, variants=(BASE,), split=split)
    chosen = dialogue_config(RunConfig(variants=(BASE,)), ResolvedVariants((BASE,), manifest, tmp_path))
    assert (chosen.source, chosen.salt, chosen.hub_split, chosen.on_invalid) == ("o/n", "s", "validation", "skip")
    assert (chosen.columns.prompt, chosen.columns.input) == ("question", None)
    assert chosen.columns.model_fields_set == {"prompt", "input"}


def test_timing_alone_needs_no_references(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"instruction": "What helps against cough?"}\n', encoding="utf-8")
    found = held_out(config(path, dialogues={"split": "all"}, passes=("latency", "memory")), plain(), no_tokenizer)
    assert found.rows[0].reference is None
