"""From records and from replies generated outside the harness to scored replies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.files import write_model, write_rows
from harness.jobs.reply_files import read_replies
from harness.metrics.loading import load_metrics
from harness.metrics.metric_set import MetricSet
from harness.metrics.registry import Item
from harness.metrics.workers import WORTH_WORKERS, score
from harness.progress import SilentProgress
from harness.results.replies_scored import score_replies, unfinished_warnings
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, GenerationRecord, ReplyRow, RunManifest, ScoringRecord

METRICS = ["rouge", "bleu", "likelihood", "form"]


@pytest.fixture
def metrics() -> MetricSet:
    return load_metrics(METRICS)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    manifest = RunManifest(
        schema=1, state="running", config={}, config_digest="0", variants=({"name": "base"}, {"name": "merged"})
    )
    write_model(folder.manifest_path, manifest)
    write_rows(
        folder.dialogues_path,
        [DialogueRow(id=id, prompt=f"prompt {id}", reference="Rest and drink water.") for id in ("a", "b", "c", "d")],
    )
    for name in ("base", "merged"):
        (tmp_path / "records" / "scoring").mkdir(parents=True, exist_ok=True)
        (tmp_path / "records" / "generation").mkdir(parents=True, exist_ok=True)
        write_rows(
            folder.records_path("scoring", name),
            [
                ScoringRecord(id="b", key="1", nll=8.0, reference_tokens=4, prompt_tokens=3),
                ScoringRecord(id="a", key="0", nll=9.0, reference_tokens=4),
                ScoringRecord(id="a", key="1", nll=2.0, reference_tokens=4),
                ScoringRecord(id="c", key="1", skipped="too long"),
            ],
        )
        write_rows(
            folder.records_path("generation", name),
            [
                GenerationRecord(id="a", key="1", reply="Rest.", reply_tokens=2, prompt_tokens=3, finish="eos"),
                GenerationRecord(id="b", key="1", error="out of memory"),
                GenerationRecord(id="c", key="1", skipped="too long"),
            ],
        )
    return folder


def test_records_are_joined_in_run_order_with_scores_and_statistics(folder: RunFolder, metrics: MetricSet) -> None:
    score_replies(folder, metrics)
    rows = folder.replies("base")
    assert [row.id for row in rows] == ["a", "b", "c"]
    assert rows[0].reply == "Rest."
    assert rows[0].finish == "eos"
    assert rows[0].prompt_tokens == 3
    assert rows[0].scores["quality.nll"] == 0.5
    assert rows[0].scores["quality.rouge_1"] == pytest.approx(0.4)
    assert rows[0].statistics["quality.bleu"][:2] == (2.0, 5.0)
    assert [row.id for row in folder.replies("merged")] == ["a", "b", "c"]


class Counted(SilentProgress):
    def __init__(self) -> None:
        self.total = self.done = 0

    def start(self, task: str, total: int, unit: str = "dialogues") -> None:
        self.total = total

    def advance(self, task: str, done: int = 1, tokens: int = 0, detail: str = "") -> None:
        self.done += done

    def finish(self, task: str) -> None:
        assert self.done == self.total


def test_a_count_that_is_finished_has_reached_its_total(folder: RunFolder, metrics: MetricSet) -> None:
    shown = Counted()
    score_replies(folder, metrics, shown)
    assert shown.done == shown.total == 6


def test_processes_have_told_of_every_item_when_the_last_score_is_taken(metrics: MetricSet) -> None:
    items = [Item(id=str(n), prompt="", reference="Rest.", reply="Rest.") for n in range(WORTH_WORKERS)]
    done: list[int] = []
    scores = score(metrics, items, workers=2, advance=done.append)
    assert all(next(scores).values for _ in items)
    assert sum(done) == len(items)


def test_of_two_records_the_later_counts_and_others_may_be_refused(folder: RunFolder, metrics: MetricSet) -> None:
    assert score_replies(folder, metrics)["base"][0].nll == 2.0
    rows = score_replies(folder, metrics, accept=lambda pass_name, variant, record: record.key == "0")["base"]
    assert [(row.id, row.nll, row.reply) for row in rows] == [("a", 9.0, None)]


def test_errors_and_skips_are_kept_and_have_no_score(folder: RunFolder, metrics: MetricSet) -> None:
    rows = score_replies(folder, metrics)["base"]
    assert [row.error for row in rows] == [None, "out of memory", "too long"]
    assert rows[1].scores["quality.rouge_1"] is None
    assert rows[1].scores["quality.nll"] == 2.0


def test_scoring_again_gives_the_same_file(folder: RunFolder, metrics: MetricSet) -> None:
    score_replies(folder, metrics)
    before = folder.replies_path("base").read_bytes()
    score_replies(folder, metrics)
    assert folder.replies_path("base").read_bytes() == before


def write_lines(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def line(id: str = "1", reply: str | None = "Rest.", **more: Any) -> dict[str, Any]:
    return {"id": id, "reference": "Rest and drink.", "reply": reply, **more}


def test_replies_made_elsewhere_become_a_run_folder_that_can_be_scored(tmp_path: Path, metrics: MetricSet) -> None:
    first = write_lines(tmp_path / "1.jsonl", [line("x", prompt="I cough", source="nih", model="m1"), line("y")])
    second = write_lines(tmp_path / "2.jsonl", [line("y", None), line("x", "Drink \ud800.", source="nih", model="m2")])
    folder = RunFolder(tmp_path / "out")
    read = read_replies({"one": first, "two": second})
    assert (list(read.replies), len(read.dialogues), read.missing) == (["one", "two"], 2, {"one": 0, "two": 0})
    read.write(folder)
    dialogues = folder.dialogues()
    assert [(d.id, d.prompt, d.columns) for d in dialogues] == [("x", "I cough", {"source": "nih"}), ("y", "", {})]
    rows = score_replies(folder, metrics, variants=list(read.replies))
    assert rows["two"][0].reply == "Drink \ud800."
    assert rows["two"][1].error == "the reply is null"
    assert folder.replies("one")[0].scores["quality.rouge_1"] == pytest.approx(0.5)
    assert score_replies(folder, load_metrics(["chrf"]), variants=["one"])["one"][0].scores.keys() == {"quality.chrf"}


def test_a_dialogue_that_one_system_lacks_counts_as_not_answered(tmp_path: Path) -> None:
    files = {
        "one": write_lines(tmp_path / "1.jsonl", [line("x"), line("y")]),
        "two": write_lines(tmp_path / "2.jsonl", [line("y"), line("z")]),
    }
    folder = RunFolder(tmp_path / "out")
    read = read_replies(files)
    assert read.missing == {"one": 1, "two": 1}
    read.write(folder)
    assert folder.replies("one")[2] == ReplyRow(id="z", error="no reply in the file")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line(), {"id": "2", "reference": "a"}], "line 2: the key 'reply' is missing"),
        ([{"id": "2", "refrence": "a", "reply": "b"}], "'reference' is missing. Did you mean 'refrence'"),
        ([line(), line()], "line 2: the id '1' is already in line 1"),
        ([line(reply=3)], "line 1: 'reply' must be a string"),
        ([line(prompt=["a"])], "line 1: 'prompt' must be a string"),
        ([line(id=True)], "line 1: 'id' must be"),
        ([line(), "{not json}\n"], "line 2: not valid JSON"),
        (["[1]\n"], "line 1: expected an object"),
        (['{"id": "1", "reference": "a", "reply": "b", "x": NaN}\n'], "line 1: not valid JSON"),
        (['{"id": "1", "reference": "a", "reply": "b", "reply": "c"}\n'], "line 1: .*the key 'reply' is given twice"),
        (["\n"], "contains no replies"),
    ],
)
def test_an_unusable_line_is_named(tmp_path: Path, lines: list[Any], message: str) -> None:
    path = write_lines(tmp_path / "replies.jsonl", lines)
    with pytest.raises(InputError, match=message) as caught:
        read_replies({"one": path})
    assert str(path) in str(caught.value)


def test_systems_with_different_references_are_refused(tmp_path: Path) -> None:
    first = write_lines(tmp_path / "1.jsonl", [line("x"), line("y")])
    second = write_lines(tmp_path / "2.jsonl", [{**line("y"), "reference": "Other."}])
    with pytest.raises(
        InputError, match=r"2\.jsonl, line 1: the reference of 'y' differs from that in .*1\.jsonl, line 2"
    ):
        read_replies({"one": first, "two": second})


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "dot."])
def test_a_system_s_name_is_also_a_file_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="is not a valid system name"):
        read_replies({name: write_lines(tmp_path / "1.jsonl", [line()])})


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_bytes(b'{"id": "1", "reference": "\xff", "reply": ""}\n')
    with pytest.raises(InputError, match="line 1: not valid UTF-8"):
        read_replies({"one": tmp_path / "1.jsonl"})


def test_a_reply_is_scored_against_every_reference_and_the_best_counts(folder: RunFolder, metrics: MetricSet) -> None:
    several = [
        row.model_copy(update={"reference": "Something else entirely.", "further_references": ("Rest.", "Water.")})
        for row in folder.dialogues()
    ]
    write_rows(folder.dialogues_path, several)
    (best, *_), (mean, *_) = (score_replies(folder, metrics, how=how)["base"] for how in ("best", "mean"))
    assert (best.scores["quality.rouge_1"], mean.scores["quality.rouge_1"]) == (1.0, pytest.approx(1 / 3))
    assert best.nll == 2.0


def with_reply(folder: RunFolder, record: GenerationRecord, prompt: str = "p") -> None:
    write_rows(folder.dialogues_path, [DialogueRow(id="a", prompt=prompt, reference="Rest and drink water.")])
    write_rows(folder.records_path("generation", "base"), [record])


def test_reasoning_is_not_judged_and_the_raw_text_is_kept(folder: RunFolder, metrics: MetricSet) -> None:
    plain = GenerationRecord(id="a", key="1", reply="Rest.", finish="eos")
    with_reply(folder, plain)
    expected = score_replies(folder, metrics, variants=["base"])["base"][0]
    raw = "<think>Drink water?</think>\n\nRest."
    with_reply(folder, plain.model_copy(update={"reply": raw}))
    row = score_replies(folder, metrics, variants=["base"])["base"][0]
    assert (row.raw, expected.raw) == (raw, None)
    assert row.model_copy(update={"raw": None}) == expected
    kept = score_replies(folder, metrics, variants=["base"], reasoning=())["base"][0]
    assert (kept.reply, kept.raw) == (raw, None)


def test_reasoning_marked_by_special_tokens_is_found_in_the_text_that_has_them(
    folder: RunFolder, metrics: MetricSet
) -> None:
    marked = "[THINK]Drink?[/THINK]Rest."
    with_reply(folder, GenerationRecord(id="a", key="1", reply="Drink?Rest.", marked=marked, finish="eos"))
    found = score_replies(folder, metrics, variants=["base"], reasoning=(("[THINK]", "[/THINK]"),))["base"][0]
    assert (found.reply, found.raw) == ("Rest.", marked)
    other = score_replies(folder, metrics, variants=["base"])["base"][0]
    assert (other.reply, other.raw) == ("Drink?Rest.", None)


@pytest.mark.parametrize(("reply", "prompt"), [("<think>Or", "p"), ("Or", "p<think>\n")])
def test_a_reply_that_ends_inside_its_reasoning_counts_as_truncated_and_is_told(
    folder: RunFolder, metrics: MetricSet, reply: str, prompt: str
) -> None:
    with_reply(folder, GenerationRecord(id="a", key="1", reply=reply, finish="eos"), prompt)
    rows = score_replies(folder, metrics, variants=["base"])
    assert (rows["base"][0].reply, rows["base"][0].raw, rows["base"][0].unfinished) == ("", reply, True)
    assert (rows["base"][0].scores["quality.truncated"], rows["base"][0].scores["quality.empty"]) == (1.0, 1.0)
    assert unfinished_warnings(rows) == [
        "1 of 1 replies of 'base' end inside a reasoning block; only what comes before it was judged."
    ]
