"""The page draws what ``harness.results`` measured, and measures nothing itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import reports
from harness.files import write_model, write_rows
from harness.metrics.loading import all_specs
from harness.passes.latency.units import Unit
from harness.results.summarize import summarize
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, LatencyRecord, RunManifest
from reports.figures import latency
from reports.view import read_view

MS = 1_000_000


@pytest.fixture
def steady(tmp_path: Path) -> RunFolder:
    """A run in which every token, the first too, takes 250 ms, at batch 1 and in a batch of four."""
    folder = RunFolder(tmp_path)
    folder.write_manifest(RunManifest(state="complete", config={}, config_digest="", variants=({"name": "base"},)))
    row = DialogueRow(id="d", prompt="")
    units = [
        Unit("fixed", "eager", "d", row, ((1, 2, 3),), 4, repeats=1),
        Unit("sweep", "eager", "batch-of-4", row, ((1, 2, 3),) * 4, 4, repeats=1),
    ]
    stamps = tuple(250 * MS * step for step in range(1, 5))
    records = [unit.record(key="k", repeat=0, order=0, submitted_ns=0, stamps_ns=stamps) for unit in units]
    write_rows(folder.records_path("latency", "base"), records)
    write_model(folder.summary_path, summarize(folder, all_specs(), resamples=100))
    return folder


def test_a_batch_of_four_makes_four_times_the_tokens_of_one_request(steady: RunFolder) -> None:
    chart = latency.throughput(read_view(steady), "eager")
    assert chart is not None
    assert chart.rows == (("base", "1", "250", "4.00", "1"), ("base", "4", "250", "16.0", "1"))


def test_the_chart_of_times_has_the_summarys_median(sample: RunFolder) -> None:
    view = read_view(sample)
    chart = latency.ecdf(view, "eager", "tpot")
    assert chart is not None
    medians = {row[0]: float(row[2]) for row in chart.rows}
    for variant, median in medians.items():
        assert median == pytest.approx(view.summary.metrics["latency.tpot_ms.p50"].variants[variant].value, rel=5e-3)


@pytest.mark.parametrize(
    ("launched_ms", "said"),
    [
        (None, ""),
        (2, "in ms: base 2.00; the rest of the median is the device's."),
        (240, "in ms: base 240; most of the median, and differs from run to run."),
    ],
)
def test_the_page_says_how_much_of_ttft_is_the_hosts(steady: RunFolder, launched_ms: int | None, said: str) -> None:
    path = steady.records_path("latency", "base")
    launched = None if launched_ms is None else launched_ms * MS
    rows = steady.records(LatencyRecord, "latency", "base")
    write_rows(path, [row.model_copy(update={"launched_ns": launched}) for row in rows])
    chart = latency.ecdf(read_view(steady), "eager", "ttft")
    assert chart is not None
    assert chart.caption.partition("The host's part, launching the prompt, ")[2] == said


def test_how_near_the_hardwares_limit_is_the_summarys_utilisation(sample: RunFolder) -> None:
    view = read_view(sample)
    chart = latency.roofline(view)
    assert chart is not None
    for variant, _, _, reached, *_ in chart.rows:
        mbu = view.summary.metrics["latency.mbu"].variants[variant].value
        assert float(reached.rstrip(" %")) == pytest.approx(100 * (mbu or 0.0), abs=0.5)


def test_reports_read_no_records_and_know_no_stamps() -> None:
    folder = Path(reports.__file__ or "").parent
    forbidden = re.compile(r"stamps_ns|submitted_ns|\.records\(|\b\w+Record\b")
    found = {path.name: forbidden.findall(path.read_text("utf-8")) for path in folder.rglob("*.py")}
    assert {name: words for name, words in found.items() if words} == {}


def test_the_page_says_on_which_device_one_of_several_processes_timed(steady: RunFolder) -> None:
    def caption() -> str:
        chart = latency.ecdf(read_view(steady), "eager", "tpot")
        assert chart is not None
        return chart.caption

    assert "processes" not in caption()
    facts = {"processes": 4, "device": "cuda:2"}
    steady.write_manifest(steady.read_manifest().model_copy(update={"provenance": facts}))
    assert "One of the run's 4 processes timed them on cuda:2, after the others had ended." in caption()
