"""Scoring finished variants ahead: the same numbers, and nothing that depends on it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from harness.dialogues.reply_text import REASONING
from harness.errors import HarnessError
from harness.files import write_rows
from harness.metrics import workers
from harness.metrics.loading import load_metrics
from harness.metrics.metric_set import MetricSet
from harness.metrics.registry import MetricOptions
from harness.metrics.text.rouge import Rouge
from harness.results.replies_scored import score_replies
from harness.results.scored_ahead import ScoredAhead
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, GenerationRecord

METRICS = ("rouge", "likelihood", "form", "medical")
VARIANTS = ("base", "merged")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run of 40 dialogues, all replies written, of which every other is one of four."""
    folder = RunFolder(tmp_path)
    ids = [str(number) for number in range(40)]
    write_rows(
        folder.dialogues_path,
        [DialogueRow(id=id, prompt=f"Question {id}?", reference=f"Rest for {id} days.") for id in ids],
    )
    for name in VARIANTS:
        folder.records_path("generation", name).parent.mkdir(parents=True, exist_ok=True)
        replies = {id: f"Take {int(id) % (4 if int(id) % 2 else 99)} mg of ibuprofen, says {name}." for id in ids}
        records = (
            GenerationRecord(id=id, key="k", reply=reply, reply_tokens=9, prompt_tokens=3, finish="eos")
            for id, reply in replies.items()
        )
        write_rows(folder.records_path("generation", name), list(records))
    return folder


def metrics() -> MetricSet:
    return load_metrics(METRICS)


def scored_files(folder: RunFolder, known: workers.Known | None) -> list[bytes]:
    score_replies(folder, metrics(), variants=VARIANTS, known=known)
    return [folder.replies_path(name).read_bytes() for name in VARIANTS]


def test_replies_scored_ahead_are_written_byte_by_byte_as_without_and_not_scored_again(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    plainly = scored_files(folder, None)
    with ScoredAhead(folder, metrics, REASONING, 1) as ahead:
        for name in VARIANTS:
            ahead.begin(name)
        known = ahead.known()
    assert len(known) == 80
    monkeypatch.setattr(Rouge, "score", lambda *_: pytest.fail("scored again"))
    assert scored_files(folder, known) == plainly


def test_a_reply_that_changed_since_is_scored_again(folder: RunFolder) -> None:
    with ScoredAhead(folder, metrics, REASONING, 1) as ahead:
        ahead.begin("base")
        known = ahead.known()
    path = folder.records_path("generation", "base")
    path.write_text(path.read_text(encoding="utf-8").replace("Take 0 mg", "Take 7 mg"), encoding="utf-8")
    assert scored_files(folder, known) == scored_files(folder, None)


def test_what_fails_ahead_is_scored_when_all_is_computed(folder: RunFolder) -> None:
    def broken() -> MetricSet:
        raise HarnessError("no such metric")

    with ScoredAhead(folder, broken, REASONING, 1) as ahead:
        ahead.begin("base")
        assert ahead.known() == {}


def test_without_idle_cores_nothing_is_scored_ahead(folder: RunFolder) -> None:
    with ScoredAhead(folder, lambda: pytest.fail("scored"), REASONING, 0) as ahead:
        ahead.begin("base")
        assert ahead.known() == {}


def test_a_run_that_ends_early_does_not_wait_for_scores(folder: RunFolder, tmp_path: Path) -> None:
    module = tmp_path / "endless.py"
    module.write_text(
        "import time\n"
        "from harness.metrics.user import per_reply\n"
        "@per_reply(name='quality.endless', unit='', higher_is_better=True)\n"
        "def endless(item):\n"
        "    time.sleep(600)\n",
        encoding="utf-8",
    )
    options = MetricOptions(modules=(str(module),))
    with ScoredAhead(folder, lambda: load_metrics((), options), REASONING, 1) as ahead:
        ahead.begin("base")
        while ahead._workers is None:
            time.sleep(0.01)
        process = ahead._workers._processes[0]
    assert process.returncode == -signal.SIGKILL
