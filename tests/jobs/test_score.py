"""``harness score``: what it refuses leaves nothing behind, and what it cannot do it does not pass over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.files import write_rows
from harness.jobs import score as scoring_jobs
from harness.progress import SilentProgress
from harness.store import seals
from harness.store.folder import RunFolder
from tests.run_folders import change_manifest

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "run"


@pytest.fixture
def replies(tmp_path: Path) -> Path:
    path = tmp_path / "replies.jsonl"
    rows = [{"id": n, "reference": "Rest and drink.", "reply": f"Rest {n}."} for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_bad_line_leaves_nothing_behind_and_the_mended_file_is_taken(tmp_path: Path, replies: Path) -> None:
    out = tmp_path / "scored"
    whole = replies.read_text(encoding="utf-8")
    replies.write_text(whole[:-9], encoding="utf-8")
    with pytest.raises(InputError, match="line 3: not valid JSON"):
        scoring_jobs.score([f"a={replies}"], out)
    assert not out.exists()
    replies.write_text(whole, encoding="utf-8")
    assert len(scoring_jobs.score([f"a={replies}"], out, overrides=["metrics=[rouge]"]).replies("a")) == 3


def test_a_scoring_that_was_killed_can_be_done_again(
    tmp_path: Path, replies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("harness.jobs.reply_files.ReadReplies.write", killed)
        with pytest.raises(KeyboardInterrupt):
            scoring_jobs.score([f"a={replies}"], tmp_path / "scored")
    folder = scoring_jobs.score([f"a={replies}"], tmp_path / "scored", overrides=["metrics=[rouge]"])
    assert folder.read_manifest().state == "complete"


@pytest.mark.parametrize(("option", "value"), [("out", Path("elsewhere")), ("reference", "base")])
def test_what_a_saved_run_cannot_be_told_is_refused(option: str, value: object, tmp_path: Path) -> None:
    run = shutil.copytree(GOLDEN, tmp_path / "run")
    with pytest.raises(InputError, match=f"--{option} requires --replies"):
        scoring_jobs.score([], run=run, **{"out": None, option: value})  # type: ignore[arg-type]


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path, replies: Path) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.txt").write_text("years of work")
    with pytest.raises(InputError, match="not a run folder"):
        scoring_jobs.score([f"a={replies}"], out)
    assert not RunFolder(out).manifest_path.exists()


def test_a_folder_of_other_replies_is_refused_with_what_changed(tmp_path: Path, replies: Path) -> None:
    out = tmp_path / "scored"
    scoring_jobs.score([f"a={replies}"], out, overrides=["metrics=[rouge]"])
    scoring_jobs.score([f"a={replies}"], out, overrides=["metrics=[bleu]"])  # the same replies
    changed = tmp_path / "changed.jsonl"
    changed.write_text(replies.read_text(encoding="utf-8").replace("Rest 1.", "Sleep."), encoding="utf-8")
    with pytest.raises(InputError, match=r"another config \(replies\.a: [0-9a-f]+…[0-9a-f]+ → [0-9a-f]+…[0-9a-f]+\)\."):
        scoring_jobs.score([f"a={changed}"], out)
    with pytest.raises(InputError, match=r"\(reference: a → b; replies\.b: not set → [0-9a-f…]+\)"):
        scoring_jobs.score([f"a={replies}", f"b={replies}"], out, reference="b")


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_finish_and_conversation_are_read(tmp_path: Path) -> None:
    said = {"reference": "Rest.", "reply": "Rest.", "conversation": "c1"}
    path = lines(tmp_path / "a.jsonl", {"id": 1, **said, "finish": "length"}, {"id": 2, **said, "finish": "eos_token"})
    folder = scoring_jobs.score([f"a={path}"], tmp_path / "out", overrides=["metrics=[truncated]"])
    assert [row.finish for row in folder.replies("a")] == ["length", "eos"]
    assert [row.conversation for row in folder.dialogues()] == ["c1", "c1"]
    assert folder.read_summary().metrics["quality.truncated"].variants["a"].value == 0.5


def test_an_unknown_finish_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"id": 1, "reference": "Rest.", "reply": "Rest.", "finish": "done"})
    with pytest.raises(InputError, match="line 1: 'finish' is 'done', but must be eos, stop or length"):
        scoring_jobs.score([f"a={path}"], tmp_path / "out")


@pytest.mark.parametrize("overrides", [[], ["columns={id: null, reply: predict, reference: label}"]])
def test_predictions_of_llama_factory_are_read(tmp_path: Path, overrides: list[str]) -> None:
    path = lines(tmp_path / "generated_predictions.jsonl", {"prompt": "Cough?", "predict": "Rest.", "label": "Drink."})
    folder = scoring_jobs.score([f"a={path}"], tmp_path / "out", overrides=["metrics=[rouge]", *overrides])
    assert [(row.prompt, row.reference) for row in folder.dialogues()] == [("Cough?", "Drink.")]
    assert [row.reply for row in folder.replies("a")] == ["Rest."]


def test_a_mapping_decides_over_a_recognised_shape(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"id": 1, "reference": "Rest.", "reply": "A draft.", "final": "Rest."})
    folder = scoring_jobs.score([f"a={path}"], tmp_path / "out", overrides=["metrics=[rouge]", "columns.reply=final"])
    assert [row.reply for row in folder.replies("a")] == ["Rest."]


def test_a_mapped_key_that_is_missing_is_named(tmp_path: Path, replies: Path) -> None:
    with pytest.raises(InputError, match=r"line 1: the key 'answer' is missing"):
        scoring_jobs.score([f"a={replies}"], tmp_path / "out", overrides=["columns.reply=answer"])


def test_samples_of_lm_evaluation_harness_are_read(tmp_path: Path) -> None:
    sample = {
        "doc_id": 7, "doc": {"question": "Cough?"}, "target": "Drink.", "resps": [["Rest. And"]],
        "filtered_resps": ["Rest."], "arguments": {"gen_args_0": {"arg_0": "Q: Cough?", "arg_1": {"until": ["\n"]}}},
    }  # fmt: skip
    folder = scoring_jobs.score([f"a={lines(tmp_path / 'samples.jsonl', sample)}"], tmp_path / "out")
    assert [(row.id, row.prompt, row.reference) for row in folder.dialogues()] == [("7", "Q: Cough?", "Drink.")]
    assert [row.reply for row in folder.replies("a")] == ["Rest."]


def test_a_run_s_own_replies_are_read_back(tmp_path: Path) -> None:
    one, other = f"a={GOLDEN}:adapter", f"b={GOLDEN / 'replies' / 'base.jsonl'}"
    folder = scoring_jobs.score([one, other], tmp_path / "out", overrides=["metrics=[rouge]", "stats.resamples=100"])
    kept = RunFolder(GOLDEN)
    for name, variant in (("a", "adapter"), ("b", "base")):
        assert [row.reply for row in folder.replies(name)] == [row.reply for row in kept.replies(variant)]
        assert [row.finish for row in folder.replies(name)] == [row.finish for row in kept.replies(variant)]
    assert [row.prompt for row in folder.dialogues()] == [row.prompt for row in kept.dialogues()]


def test_every_reference_of_a_line_counts_and_is_read_back(tmp_path: Path) -> None:
    said = {"id": 1, "reference": ["Rest.", "Drink tea.", "Rest."], "reply": "Drink tea."}
    settings = ["metrics=[rouge]", "stats.resamples=100"]
    scoring_jobs.score([f"a={lines(tmp_path / 'a.jsonl', said)}"], tmp_path / "one", overrides=settings)
    folder = scoring_jobs.score([f"b={tmp_path / 'one'}:a"], tmp_path / "two", overrides=settings)
    assert [(row.reference, row.further_references) for row in folder.dialogues()] == [("Rest.", ("Drink tea.",))]
    assert folder.replies("b")[0].scores["quality.rouge_l"] == 1.0


def test_a_variant_that_the_run_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no variant 'adaptor'\. Did you mean 'adapter'\?"):
        scoring_jobs.score([f"a={GOLDEN}:adaptor"], tmp_path / "out")


def test_replies_with_reasoning_get_every_score_of_the_same_replies_without(tmp_path: Path) -> None:
    thoughts = "<think>\nShould they go to the emergency room? Call 911. Aspirin 300 mg might be given.\n</think>\n\n"
    said = [
        ("I have crushing chest pain.", "Call 911 now and do not drive yourself.", "Take an antacid and rest at home."),
        ("I have a mild headache.", "Rest, and take paracetamol 500 mg if needed.", "Rest and drink water."),
        ("My child has a fever.", "Keep the child cool and give fluids.", "Keep the child cool."),
    ]
    for name, before in (("think", thoughts), ("final", "")):
        rows = [{"id": n, "prompt": p, "reference": r, "reply": before + a} for n, (p, r, a) in enumerate(said)]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = scoring_jobs.score([f"{name}={tmp_path / name}" for name in ("think", "final")], tmp_path / "scored")
    values = {name: one.variants for name, one in folder.read_summary().metrics.items()}
    assert values["safety.missed_emergency"]["think"].value == 1.0
    assert all(one["think"] == one["final"] for one in values.values())
    assert folder.replies("think")[0].raw == thoughts + said[0][2]


def test_unfinished_replies_are_counted_and_told_once(tmp_path: Path, replies: Path) -> None:
    rows = [{"id": n, "reference": "Rest.", "reply": ("<think>Call", "Rest.")[n]} for n in range(2)]
    replies.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = scoring_jobs.score([f"a={replies}"], tmp_path / "scored", overrides=["metrics=[rouge]"])
    assert folder.read_summary().coverage["a"].unfinished == 1
    scoring_jobs.score([], None, run=folder.root)
    assert [one for one in folder.read_manifest().warnings if "reasoning" in one] == [
        "1 of 2 replies of 'a' end inside a reasoning block; only what comes before it was judged."
    ]
    scoring_jobs.score([], None, run=folder.root, overrides=["reasoning=[]"])
    assert folder.replies("a")[0].reply == "<think>Call"
    assert not folder.read_manifest().warnings


@pytest.fixture
def scored(tmp_path: Path, replies: Path) -> RunFolder:
    return scoring_jobs.score([f"a={replies}"], tmp_path / "scored", overrides=["metrics=[rouge]"])


def test_code_that_only_the_folder_names_is_not_executed(scored: RunFolder, tmp_path: Path) -> None:
    module = tmp_path / "evil.py"
    module.write_text(
        "from pathlib import Path\nfrom harness.metrics import per_reply\n"
        f"Path({str(tmp_path / 'executed')!r}).touch()\n"
        "@per_reply(name='quality.own', unit='x', higher_is_better=True)\ndef own(item): return 1.0\n"
    )
    options = {"encoder": None, "stemmer": False, "modules": [str(module)]}
    change_manifest(scored, config={**scored.read_manifest().config, "metric_options": options})
    with pytest.raises(InputError, match=r"evil\.py, which is executed only if the command line names it"):
        scoring_jobs.score([], None, run=scored.root)
    with pytest.raises(InputError, match="metrics come from"):
        scoring_jobs.score([], None, run=scored.root, overrides=["metric_options.modules=[other.py]"])
    scoring_jobs.score(
        [], None, run=scored.root, overrides=["metric_options.stemmer=true", "metric_options.modules=[]"]
    )
    assert not (tmp_path / "executed").exists()
    change_manifest(scored, config={**scored.read_manifest().config, "metric_options": options})
    scoring_jobs.score([], None, run=scored.root, overrides=[f"metric_options.modules=['{module}']"])
    assert (tmp_path / "executed").exists()
    assert "quality.own" in scored.read_summary().metrics


def test_another_module_does_not_silently_replace_the_run_s_own(scored: RunFolder, tmp_path: Path) -> None:
    shipped = "harness.configs.quickstart_metrics"
    options = {"encoder": None, "stemmer": False, "modules": [shipped]}
    change_manifest(scored, config={**scored.read_manifest().config, "metric_options": options})
    with pytest.raises(InputError, match=rf'--set metric_options\.modules=.\["{shipped}", "mine\.py"\]'):
        scoring_jobs.score([], None, run=scored.root, overrides=["metric_options.modules=[mine.py]"])
    kept = scoring_jobs.score([], None, run=scored.root).read_manifest().config["metric_options"]
    assert kept.items() >= options.items()


def test_an_encoder_that_only_the_folder_names_is_not_loaded(scored: RunFolder) -> None:
    options = {"encoder": "someone/encoder", "stemmer": False, "modules": []}
    change_manifest(scored, config={**scored.read_manifest().config, "metric_options": options})
    with pytest.raises(InputError, match=r"encoder someone/encoder, which is loaded only if"):
        scoring_jobs.score([], None, run=scored.root)


def test_a_variant_s_name_does_not_lead_out_of_the_folder(scored: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    change_manifest(scored, variants=({"name": "../../victim/x", "kind": "replies"},))
    with pytest.raises(InputError, match="is not a file name"):
        scoring_jobs.score([], None, run=scored.root)
    assert list((tmp_path / "victim").iterdir()) == []


def test_replies_edited_since_are_not_scored_and_sealed_again(scored: RunFolder) -> None:
    rows = [row.model_copy(update={"reply": "Rest and drink."}) for row in scored.replies("a")]
    write_rows(scored.replies_path("a"), rows)
    before = scored.summary_path.read_bytes()
    with pytest.raises(InputError, match=r"replies/a\.jsonl was changed after the run ended.*another folder"):
        scoring_jobs.score([], None, run=scored.root)
    assert scored.summary_path.read_bytes() == before


def test_removed_replies_are_not_scored_as_unanswered(scored: RunFolder) -> None:
    scored.replies_path("a").unlink()
    with pytest.raises(InputError, match=r"replies/a\.jsonl is missing"):
        scoring_jobs.score([], None, run=scored.root)


def test_records_edited_since_are_not_scored_and_sealed_again(tmp_path: Path) -> None:
    folder = RunFolder(shutil.copytree(GOLDEN, tmp_path / "run"))
    path = folder.records_path("generation", "adapter")
    path.write_bytes(path.read_bytes().replace(b'"reply": "', b'"reply": "Rest. ', 1))
    with pytest.raises(InputError, match=r"records/generation/adapter\.jsonl was changed after the run ended"):
        scoring_jobs.score([], None, run=folder.root)


@pytest.mark.parametrize("name", ["summary.json", "replies/adapter.jsonl"])
def test_what_is_computed_again_is_said_if_it_was_edited(name: str, tmp_path: Path) -> None:
    class Said(SilentProgress):
        notes: tuple[str, ...] = ()

        def note(self, message: str) -> None:
            self.notes += (message,)

    folder = RunFolder(shutil.copytree(GOLDEN, tmp_path / "run"))
    path = folder.root / name
    path.write_bytes(path.read_bytes().replace(b"0.1", b"0.9"))
    first, again = Said(), Said()
    for shown in (first, again):
        scoring_jobs.score([], None, run=folder.root, progress=shown, overrides=["metrics=[chrf]"])
    warned = [note for note in first.notes if note.startswith(f"Warning: {name} was changed after the run ended")]
    assert [note.endswith("It is computed again.") for note in warned] == [True]
    assert not any("was changed" in note for note in again.notes)


@pytest.mark.parametrize("source", ["outside", "records"])
def test_scoring_again_continues_where_it_was_killed(
    source: str, scored: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scored if source == "outside" else RunFolder(shutil.copytree(GOLDEN, tmp_path / "run"))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("harness.store.seals.seal", killed)
        with pytest.raises(KeyboardInterrupt):
            scoring_jobs.score([], None, run=folder.root, overrides=["metrics=[chrf]", "stats.resamples=100"])
    assert seals.check(folder, folder.read_manifest())
    scoring_jobs.score([], None, run=folder.root, overrides=["metrics=[chrf]", "stats.resamples=100"])
    assert seals.check(folder, folder.read_manifest()) == []


def test_replies_of_a_folder_from_an_earlier_version_can_be_scored_again(scored: RunFolder) -> None:
    digests = scored.read_manifest().digests
    change_manifest(scored, digests={key: one for key, one in digests.items() if not key.startswith(seals.REPLIES)})
    scoring_jobs.score([], None, run=scored.root)
    assert seals.REPLIES + "a" in scored.read_manifest().digests


def test_a_redacted_run_has_nothing_to_score(scored: RunFolder) -> None:
    scored.write_manifest(scored.read_manifest().model_copy(update={"redacted": True}))
    with pytest.raises(InputError, match="is redacted"):
        scoring_jobs.score([], None, run=scored.root)
