"""A run as pandas frames."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness
from harness.files import write_model
from harness.results.summarize import summarize
from harness.store.folder import RunFolder
from tests.results.made_runs import REGISTRY, make_run, reply, timed, write_records, write_replies

METRIC = "quality.rouge_1"


def finished(folder: RunFolder) -> RunFolder:
    write_model(folder.summary_path, summarize(folder, REGISTRY))
    return folder


def test_scores_mark_what_the_summary_leaves_out(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=4, variants=("base",))
    facts: list[tuple[float | None, str | None]] = [(None, "out of memory"), (0.5, None), (None, None), (0.7, None)]
    rows = [reply(f"d{k:04}", scores={METRIC: value}, error=error) for k, (value, error) in enumerate(facts)]
    write_replies(folder, "base", rows)
    frames = harness.load_run(finished(folder).root)
    assert frames.scores["left_out"].tolist() == [True, False, True, False]
    counted = frames.scores.query("not left_out")
    worst = counted.nsmallest(1, "value")
    assert worst["id"].tolist() == ["d0001"]
    summary = frames.summary.set_index("metric").loc[METRIC]
    assert (counted["value"].mean(), len(counted)) == (pytest.approx(summary["value"]), summary["n"])


def test_the_readmes_worst_replies_are_among_those_that_count(tmp_path: Path) -> None:
    text = (Path(harness.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith(("counted = ", "worst = "))]
    folder = make_run(tmp_path, n=12, variants=("adapter",))
    rows = [reply(f"d{k:04}", scores={"quality.rouge_l": None if k < 5 else k / 10}) for k in range(12)]
    write_replies(folder, "adapter", rows)
    found = {"run": harness.load_run(finished(folder).root)}
    exec("\n".join(lines), found)
    assert found["worst"]["id"].tolist() == [f"d{k:04}" for k in range(5, 10)]


def test_timings_are_those_of_the_summary(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=1, variants=("base",))
    write_records(folder, "latency", "base", [timed("d0000", step_ms=10.0, ttft_ms=50.0, tokens=5)])
    (row,) = harness.load_run(finished(folder).root).latencies.to_dict("records")
    assert (row["ttft_ms"], row["tpot_ms"], row["e2e_ms"], row["output_tokens"]) == (50.0, 10.0, 90.0, 5)
