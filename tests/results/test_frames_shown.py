"""A loaded run in a notebook: a small table, and the comparison as HTML."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lxml import html

import harness
from harness.files import read_model, write_model
from harness.results.summarize import summarize
from harness.store.schema import Summary
from tests.results.made_runs import REGISTRY, make_run, reply, write_replies

pytest.importorskip("pandas")
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "run"


def test_the_text_is_a_small_table_of_what_is_first_asked_about() -> None:
    lines = repr(harness.load_run(GOLDEN)).splitlines()
    assert lines[0] == "Run golden/run: complete, 12 dialogues; differences to base"
    assert lines[1].split() == ["base", "base-nf4", "adapter", "merged"]
    nll = next(line for line in lines if line.startswith("quality.nll"))
    assert nll.split() == ["quality.nll", "5.32", "5.312", "1.428", "▲", "1.427", "▲"]
    assert len(lines) < 16
    assert max(map(len, lines)) <= 100


def test_the_html_compares_every_metric_with_the_reference() -> None:
    table = html.fromstring(harness.load_run(GOLDEN)._repr_html_())
    summary = read_model(Summary, GOLDEN / "summary.json")
    rows = {row.xpath("./th")[0].text: [cell.text for cell in row.xpath("./td")] for row in table.xpath("./tbody/tr")}
    assert set(rows) <= {name for name in summary.metrics if "[" not in name}
    found = next(c for c in summary.comparisons if (c.metric, c.variant) == ("quality.nll", "adapter"))
    told = f"1.428 ({found.value:+.3g}, {found.low:+.3g} to {found.high:+.3g}) ▲".replace("-", "−")
    assert rows["quality.nll"][2] == told
    assert rows["quality.nll"][0] == "5.32"
    assert " × " in rows["latency.tpot_ms.p50"][2] or " ×)" in rows["latency.tpot_ms.p50"][2]


def test_names_cannot_bring_markup_into_the_notebook(tmp_path: Path) -> None:
    name = "<script>alert(1)<script>"
    folder = make_run(tmp_path / "<b>run", n=4, variants=(name,))
    write_replies(folder, name, [reply(f"d{k:04}", scores={"quality.rouge_1": 0.5}) for k in range(4)])
    write_model(folder.summary_path, summarize(folder, REGISTRY))
    shown = harness.load_run(folder.root)._repr_html_()
    assert "<script" not in shown
    assert "<b>" not in shown
    assert "&lt;script&gt;alert(1)" in shown


def test_a_run_without_comparisons_is_shown_too(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "run")
    bare = read_model(Summary, GOLDEN / "summary.json").model_copy(update={"comparisons": ()})
    write_model(tmp_path / "run" / "summary.json", bare)
    assert "quality.nll" in repr(harness.load_run(tmp_path / "run"))
    write_model(tmp_path / "run" / "summary.json", bare.model_copy(update={"metrics": {}}))
    assert repr(harness.load_run(tmp_path / "run")).startswith("Run ")
