"""A small finished run, kept: everything downstream of the records must go on reading it, and find the same numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import harness
from harness.cli.app import main
from harness.files import write_model
from harness.metrics.loading import all_specs, load_metrics
from harness.results.replies_scored import score_replies
from harness.results.summarize import summarize
from harness.store import seals
from harness.store.folder import RunFolder
from harness.store.schema import ReplyRow, Summary

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "run"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(GOLDEN, tmp_path / "run"))


def close(one: Summary, other: Summary) -> None:
    assert set(one.metrics) == set(other.metrics)
    for name, metric in one.metrics.items():
        for variant, found in metric.variants.items():
            kept = other.metrics[name].variants[variant]
            for field in ("value", "low", "high"):
                expected = getattr(kept, field)
                value = getattr(found, field)
                assert value == (None if expected is None else pytest.approx(expected, rel=1e-6, abs=1e-9)), name
            assert found.n == kept.n


def test_summary_can_be_computed_again_from_the_records(run: RunFolder) -> None:
    close(summarize(run, registry=all_specs()), run.read_summary())


def test_replies_can_be_scored_again_from_the_records(run: RunFolder) -> None:
    before = {name: run.replies(name) for name in ("base", "base-nf4", "adapter", "merged")}
    again = score_replies(run, load_metrics())
    assert [[_unscored(row) for row in again[name]] for name in before] == [
        [_unscored(row) for row in before[name]] for name in before
    ]
    for name, rows in before.items():
        for old, new in zip(rows, again[name], strict=True):
            assert {name for name, value in new.scores.items() if value is None} == {
                name for name, value in old.scores.items() if value is None
            }
            assert {name: value or 0.0 for name, value in new.scores.items()} == pytest.approx(
                {name: value or 0.0 for name, value in old.scores.items()}, rel=1e-12
            )


def _unscored(row: ReplyRow) -> ReplyRow:
    return row.model_copy(update={"scores": {}})


def test_seal_is_whole(run: RunFolder) -> None:
    assert seals.check(run, run.read_manifest()) == []


def test_frames_read_it(run: RunFolder) -> None:
    pytest.importorskip("pandas")
    frames = harness.load_run(run.root)
    assert len(frames.replies) == 4 * 12
    assert set(frames.scores["metric"]) >= {"quality.rouge_l", "quality.nll"}


def test_frames_of_what_was_not_measured_have_the_columns_of_what_was(run: RunFolder) -> None:
    pytest.importorskip("pandas")
    whole = harness.load_run(run.root)
    shutil.rmtree(run.root / "records")
    write_model(run.summary_path, run.read_summary().model_copy(update={"comparisons": ()}))
    bare = harness.load_run(run.root)
    for name in ("latencies", "memory", "comparisons"):
        columns = list(getattr(bare, name).columns)
        assert getattr(bare, name).empty
        assert columns
        # The whole one may have more: whatever a record says beyond its schema.
        assert [column for column in getattr(whole, name).columns if column in columns] == columns


def test_page_and_gate_take_it(run: RunFolder, tmp_path: Path) -> None:
    assert main(["report", str(run.root), "--redact-text"]) == 0
    page = run.report_path.read_text(encoding="utf-8")
    reply = json.loads(run.replies_path("adapter").read_text().splitlines()[0])["reply"]
    assert "adapter" in page
    assert reply[:40] not in page
    thresholds = tmp_path / "t.yaml"
    thresholds.write_text(
        "version: 1\ncandidate: adapter\ndefaults: {min_samples: 5}\n"
        "checks: [{id: better, metric: quality.nll, max: 0, against: {variant: base}}]\n"
    )
    assert main(["gate", str(run.root), "--thresholds", str(thresholds)]) == 0
