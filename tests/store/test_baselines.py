"""Accepting a run: a whole copy under a name, with who, when and why; never a failed, unfinished or edited one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.errors import HarnessError, InputError
from harness.files import digest_file, read_rows, write_rows
from harness.gating.gate import gate
from harness.store import seals
from harness.store.baselines import Baselines, gate_verdict
from harness.store.folder import RunFolder
from harness.store.redaction import redact
from harness.store.schema import ChatText, DialogueRow, GenerationRecord
from reports.render import render, write_report
from reports.tables import write_csv
from reports.text import summary_markdown
from tests.run_folders import change_manifest, make_run, random_values, reseal

NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = make_run(tmp_path / "run", random_values(5), columns={"source": list("aabbb"), "note": ["secret"] * 5})
    for variant, tokens in {"base": (1, 2, 3), "adapter": (1, 2, 4), "merged": (1, 2, 3)}.items():
        records = [GenerationRecord(id="d0000", key="k", reply=f"secret {tokens}", tokens=tokens)]
        write_rows(folder.records_path("generation", variant), records)
    return reseal(folder)


@pytest.fixture
def store(tmp_path: Path) -> Baselines:
    return Baselines(tmp_path / "baselines")


def gate_says(run: RunFolder, verdict: str, code: int, digest: str | None = None) -> None:
    said = {
        "verdict": verdict,
        "exit_code": code,
        "run": {"digest": digest or digest_file(run.manifest_path)},
    }
    (run.root / "gate.json").write_text(json.dumps(said))


def test_an_accepted_run_is_copied_whole_and_noted(run: RunFolder, store: Baselines) -> None:
    note = store.accept(run.root, "main", " first release ", who="Ada", now=NOON)
    copy = store.find("main")
    assert seals.check(copy, copy.read_manifest()) == []
    assert copy.summary_path.read_bytes() == run.summary_path.read_bytes()
    assert (note.who, note.when, note.reason, note.gate) == (
        "Ada",
        "2025-01-02T12:00:00+00:00",
        "first release",
        "none",
    )
    (line,) = store.history()
    assert line.run_digest == digest_file(run.manifest_path)
    assert line.numbers_digest == digest_file(copy.summary_path)


def test_accepting_again_replaces_the_run_and_keeps_the_history(
    run: RunFolder, store: Baselines, tmp_path: Path
) -> None:
    other = make_run(tmp_path / "other", random_values(7))
    store.accept(run.root, "main", "first", now=NOON)
    store.accept(other.root, "main", "second", now=NOON)
    assert len(store.find("main").dialogues()) == 7
    assert [note.reason for note in store.history()] == ["first", "second"]
    assert sorted(path.name for path in store.root.iterdir()) == ["history.jsonl", "main"]


@pytest.mark.parametrize(("verdict", "code"), [("fail", 1), ("error", 4), ("inconclusive", 3)])
def test_a_run_whose_gate_did_not_pass_needs_force(run: RunFolder, store: Baselines, verdict: str, code: int) -> None:
    gate_says(run, verdict, code)
    with pytest.raises(HarnessError, match=f"says '{verdict}'.*--force"):
        store.accept(run.root, "main", "why not")
    assert store.names() == ()
    assert store.accept(run.root, "main", "known flaw", force=True).forced


def test_a_passed_gate_needs_no_force(run: RunFolder, store: Baselines) -> None:
    gate_says(run, "pass", 0)
    assert store.accept(run.root, "main", "good").gate == "pass"


def test_the_gate_of_another_state_of_the_run_does_not_count(run: RunFolder, store: Baselines) -> None:
    gate_says(run, "pass", 0, digest="of another day")
    with pytest.raises(HarnessError, match="outdated"):
        store.accept(run.root, "main", "good")


@pytest.mark.parametrize("force", [False, True])
def test_a_run_measured_again_since_its_gate_is_refused_even_with_force(
    run: RunFolder, store: Baselines, force: bool
) -> None:
    facts = {"digest": digest_file(run.manifest_path), "numbers_digest": "0" * 64}
    (run.root / "gate.json").write_text(json.dumps({"verdict": "pass", "exit_code": 0, "run": facts}))
    with pytest.raises(HarnessError, match=r"verdict in .* is outdated\. Run the gate again"):
        store.accept(run.root, "main", "good", force=force)


def test_a_verdict_on_the_same_numbers_counts_whatever_else_changed(run: RunFolder, store: Baselines) -> None:
    facts = {"digest": "of another run.json", "numbers_digest": digest_file(run.summary_path)}
    (run.root / "gate.json").write_text(json.dumps({"verdict": "pass", "exit_code": 0, "run": facts}))
    assert store.accept(run.root, "main", "good").gate == "pass"


def test_a_failed_gate_is_no_pass_whatever_exit_code_it_states(run: RunFolder, store: Baselines) -> None:
    gate_says(run, "fail", 0)
    with pytest.raises(HarnessError, match="says 'fail'"):
        store.accept(run.root, "main", "good")


def test_a_file_behind_a_symbolic_link_is_not_copied(run: RunFolder, store: Baselines, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password")
    for place in (run.root / "report.html", run.replies_path("linked"), run.records_path("generation", "linked")):
        place.symlink_to(secret)
        with pytest.raises(InputError, match="is a symbolic link"):
            store.accept(run.root, "main", "good")
        place.unlink()
    (run.root / "records" / "linked").symlink_to(tmp_path)
    with pytest.raises(InputError, match="is a symbolic link"):
        store.accept(run.root, "main", "good")
    assert not store.root.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"verdict": "pass"}', "[" * 100_000])
def test_a_gate_file_that_cannot_be_read_does_not_count_as_a_pass(run: RunFolder, store: Baselines, text: str) -> None:
    (run.root / "gate.json").write_text(text)
    with pytest.raises(HarnessError, match="unreadable"):
        store.accept(run.root, "main", "good")


@pytest.mark.parametrize("state", ["running", "failed"])
def test_an_unfinished_run_is_refused_even_with_force(run: RunFolder, store: Baselines, state: str) -> None:
    change_manifest(run, state=state)
    with pytest.raises(HarnessError, match="only a complete run"):
        store.accept(run.root, "main", "why", force=True)


def test_an_edited_run_is_refused_even_with_force(run: RunFolder, store: Baselines) -> None:
    with run.replies_path("base").open("a") as file:
        file.write("\n")
    with pytest.raises(HarnessError, match="was changed after the run ended"):
        store.accept(run.root, "main", "why", force=True)


@pytest.mark.parametrize("name", ["", "..", "a/b", "../a", ".hidden", "x" * 65, "main.previous"])
def test_a_name_that_is_no_folders_is_refused(run: RunFolder, store: Baselines, name: str) -> None:
    with pytest.raises(InputError, match="is not a valid baseline name"):
        store.accept(run.root, name, "why")


def test_the_history_s_own_name_is_refused(run: RunFolder, store: Baselines) -> None:
    store.accept(run.root, "main", "first")
    with pytest.raises(InputError, match="is not a valid baseline name"):
        store.accept(run.root, "history.jsonl", "second")
    assert [note.name for note in store.history()] == ["main"]


def test_an_accepted_name_goes_before_a_folder_of_that_name(
    run: RunFolder, store: Baselines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.root.parent)
    assert store.find(run.root.name).root == Path(run.root.name)
    with pytest.raises(InputError, match="There is no baseline"):
        store.accepted(run.root.name)
    store.accept(run.root, run.root.name, "first")
    assert store.find(run.root.name).root == store.root / run.root.name


def test_a_reason_is_asked_for(run: RunFolder, store: Baselines) -> None:
    with pytest.raises(InputError, match="--reason"):
        store.accept(run.root, "main", "  ")


def test_a_redacted_baseline_holds_no_text_but_every_number(run: RunFolder, store: Baselines) -> None:
    change_manifest(run, config={**run.read_manifest().config, "stats": {"slices": ["source"]}})
    (run.root / "report.html").write_text("secret")
    store.accept(run.root, "main", "private data", redact_text=True)
    copy = store.find("main")
    held = "".join(path.read_text() for path in copy.root.rglob("*") if path.is_file())
    assert "ailment" not in held
    assert "secret" not in held
    assert seals.check(copy, copy.read_manifest()) == []
    assert [row.scores for row in copy.replies("base")] == [row.scores for row in run.replies("base")]
    assert copy.dialogues()[0].columns == {"source": "a", "length_bucket": "≤ 16"}
    digests, full = copy.read_manifest().digests, run.read_manifest().digests
    assert all(digests[key] == full[key] for key in (seals.REFERENCES, seals.PROMPTS))


def test_a_path_is_a_baseline_too_and_a_wrong_name_is_answered_with_the_nearest(
    run: RunFolder, store: Baselines
) -> None:
    store.accept(run.root, "main", "first")
    assert store.find(str(run.root)).root == run.root
    with pytest.raises(InputError, match="Did you mean 'main'"):
        store.find("mian")
    with pytest.raises(InputError, match="contains none"):
        Baselines(run.root / "nowhere").find("main")


def test_an_acceptance_killed_between_its_renames_leaves_the_old_baseline(run: RunFolder, store: Baselines) -> None:
    store.accept(run.root, "main", "first")
    (store.root / "main").rename(store.root / ".main.previous")
    assert store.names() == ("main",)
    assert len(store.find("main").dialogues()) == 5


def test_the_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_BASELINES", str(tmp_path / "elsewhere"))
    assert Baselines().root == tmp_path / "elsewhere"
    monkeypatch.delenv("HARNESS_BASELINES")
    assert Baselines().root == Path("baselines")


def test_dialogues_of_a_redacted_run_keep_their_ids(run: RunFolder, store: Baselines) -> None:
    store.accept(run.root, "main", "private", redact_text=True)
    rows: list[DialogueRow] = store.find("main").dialogues()
    assert [row.id for row in rows] == [row.id for row in run.dialogues()]


def test_redacted_replies_still_part_where_they_parted(run: RunFolder, store: Baselines) -> None:
    store.accept(run.root, "main", "private", redact_text=True)
    copy = store.find("main")
    base, adapter, merged = (
        next(read_rows(GenerationRecord, copy.records_path("generation", variant)))
        for variant in ("base", "adapter", "merged")
    )
    assert base.reply == merged.reply != adapter.reply
    assert base.tokens == merged.tokens
    assert base.tokens[:2] == adapter.tokens[:2]
    assert base.tokens[2] != adapter.tokens[2]
    assert not {1, 2, 3, 4} & {*base.tokens, *adapter.tokens}


def test_redaction_removes_raw_texts_and_what_a_chat_template_joined(run: RunFolder) -> None:
    chat = ChatText(context="private context", reference="private reference")
    write_rows(run.dialogues_path, [row.model_copy(update={"chat": chat}) for row in run.dialogues()])
    write_rows(run.replies_path("base"), [row.model_copy(update={"raw": "private"}) for row in run.replies("base")])
    path = run.records_path("generation", "base")
    records = [row.model_copy(update={"marked": "private"}) for row in read_rows(GenerationRecord, path)]
    write_rows(path, records)
    redact(run, run.read_manifest())
    assert records
    assert "private" not in "".join(file.read_text() for file in (run.dialogues_path, run.replies_path("base"), path))


def test_a_baseline_and_what_is_rendered_of_a_run_name_no_path_of_the_machine(
    run: RunFolder, store: Baselines, tmp_path: Path
) -> None:
    home = "/home/jane/Secret Project"
    variants = tuple({**one, "model": f"{home}/base"} for one in run.read_manifest().variants)
    provenance = {**run.read_manifest().provenance, "command": f"python -m harness run '{home}/run.yaml'"}
    warnings = (f"Read '{home}/dialogues.jsonl'.",)
    config = {**run.read_manifest().config, "prompt": f"{home}/prompt.jinja"}
    change_manifest(run, variants=variants, provenance=provenance, warnings=warnings, config=config)
    (tmp_path / "thresholds.yaml").write_text("version: 1\nchecks: []\n")
    gate(run.root, tmp_path / "thresholds.yaml")
    write_report(run)
    (run.root / "summary.md").write_text(summary_markdown(run))
    write_csv(run, run.root / "csv")
    kept = run.manifest_path.read_text()
    assert "Secret Project" in kept
    shared = "".join(path.read_text() for path in run.root.rglob("*") if path.is_file() and path != run.manifest_path)
    assert "prompt.jinja" in shared
    assert "dialogues.jsonl" in shared
    assert [word for word in ("Secret", "jane", str(tmp_path)) if word in shared] == []
    store.accept(run.root, "main", "first", force=True)
    assert "Secret" not in store.find("main").manifest_path.read_text()
    assert run.manifest_path.read_text() == kept


def test_a_page_says_that_the_run_was_edited(run: RunFolder) -> None:
    assert "was changed after the run ended" not in render(run)
    path = run.replies_path("base")
    path.write_text(path.read_text().replace("Rest against", "Stand against", 1))
    assert "replies/base.jsonl was changed after the run ended" in render(run)


def test_a_verdict_of_an_earlier_version_still_counts_in_the_baseline(run: RunFolder, store: Baselines) -> None:
    gate_says(run, "pass", 0)
    store.accept(run.root, "main", "good")
    assert gate_verdict(store.find("main")) == "pass"


def test_a_verdict_still_counts_in_a_redacted_baseline(run: RunFolder, store: Baselines) -> None:
    gate_says(run, "pass", 0)
    store.accept(run.root, "main", "good", redact_text=True)
    assert gate_verdict(store.find("main")) == "pass"
