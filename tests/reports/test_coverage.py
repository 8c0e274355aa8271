"""Coverage stands first: in the page's table, in the terminal and in the Markdown."""

from __future__ import annotations

from pathlib import Path

from harness.files import write_json, write_model
from harness.results.coverage import estimated
from harness.store.folder import RunFolder
from reports.coverage import coverage_sentences
from reports.render import render
from reports.text import summary_markdown, summary_rows
from reports.view import read_view
from reports.words import listed
from tests.run_folders import make_run, reseal


def covered(root: Path) -> RunFolder:
    run = make_run(root)
    summary = run.read_summary()
    coverage = {**summary.coverage, "adapter": estimated(300, 276, {"too long": 24})}
    write_model(run.summary_path, summary.model_copy(update={"coverage": coverage}))
    return reseal(run)


def test_the_page_says_share_interval_and_reason_before_the_figures(tmp_path: Path) -> None:
    run = covered(tmp_path / "run")
    page = render(run)
    said = page.index("adapter answered 276 of")
    assert said < page.index('<table class="sortable comparison">')
    line = page[said : page.index("</p>", said)]
    assert "276 of 300 dialogues (92.0" in line
    assert "88.3" in line
    assert "too long: 24" in line


def test_the_summaries_begin_with_it(tmp_path: Path) -> None:
    run = covered(tmp_path / "run")
    first = summary_rows(run).rows[0]
    assert first[0] == "Dialogues answered"
    assert "276 of 300" in first[2]
    assert summary_markdown(run).index("Dialogues answered") < summary_markdown(run).index("nats")


def test_the_page_says_why_the_errors_of_a_merges_weights_are_not_known(tmp_path: Path) -> None:
    run = covered(tmp_path / "run")
    found = {"merged": {"source": "none", "reason": "its weights are stored quantised"}}
    write_json(run.root / "fidelity_weights.json", {"schema": 1, "variants": found})
    page = render(run)
    section = page.split('<section id="fidelity"')[1].split("</section>")[0]
    assert "weights of merged are not known: its weights are stored quantised." in section


def test_what_all_variants_share_is_told_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    summary = run.read_summary()
    shared = estimated(300, 276, {}).model_copy(update={"not_measured": {"memory": "no GPU"}})
    names = list(summary.coverage)
    write_model(run.summary_path, summary.model_copy(update={"coverage": dict.fromkeys(names, shared)}))
    answered, absent = coverage_sentences(read_view(reseal(run)))
    assert answered.startswith("Each variant answered 276 of 300 dialogues")
    assert absent == f"Not measured of {listed(names)}: memory: no GPU."
