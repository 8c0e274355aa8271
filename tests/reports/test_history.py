"""A baseline over time, in the terminal, on a page of its own and on the page of a later run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lxml import html

from harness.cli.app import main
from harness.gating.accepted import measured
from harness.gating.trend import Trend, trend
from harness.store.baselines import Baselines
from harness.store.folder import RunFolder
from reports.history import history_text, render_history
from reports.render import render
from reports.terminal import COLUMNS
from tests.gating.test_accepted import noisy
from tests.run_folders import make_run

LONG = "adapter 8 goes live, trained on the clinic's own dialogues of the year before for two more epochs"


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Baselines, RunFolder]:
    """Four accepted runs, of which the third is worse and the last asked other dialogues; and the third run."""
    root = tmp_path_factory.mktemp("accepted")
    store, runs = Baselines(root / "baselines"), []
    for number, (gain, reason) in enumerate(((0.2, "first"), (0.3, LONG), (0.2, "<b>faster</b>\x1b[31m"))):
        runs.append(make_run(root / f"run-{number}", noisy(number, gain)))
        store.accept(runs[-1].root, "main", reason, who="Ada", measure=measured)
    other = make_run(root / "run-3", noisy(3, 0.2), ids=[f"x{k}" for k in range(60)])
    store.accept(other.root, "main", "other questions", who="Ada", measure=measured)
    return store, runs[2]


@pytest.fixture(scope="module")
def found(accepted: tuple[Baselines, RunFolder]) -> Trend:
    return trend(accepted[0], "main")


def test_the_terminal_names_the_regression_and_stays_in_its_width(found: Trend) -> None:
    text = history_text(found)
    assert max(map(len, text.splitlines())) <= COLUMNS
    head = text.partition("\n\n")[0]
    assert " ".join(head.split()).startswith("main: 4 accepted runs. Worse than the run before: nll of adapter (2")
    assert "run-2" in head
    table = text.partition("nll of adapter, nats")[2].partition("\n\n")[0]
    (row,) = [line for line in table.splitlines() if line.startswith("  3  ")]
    assert row.endswith("▼ worse")
    assert re.search(r"\+0\.\d+  \+0\.\d+ to \+0\.\d+", row)
    assert "(other dialogues from here on)" in text


def test_what_someone_wrote_as_a_reason_cannot_act_on_a_terminal_or_a_page(found: Trend) -> None:
    assert "\x1b" not in history_text(found)
    page = render_history(found)
    assert "<b>faster" not in page
    assert "&lt;b&gt;faster" in page


def test_the_page_marks_the_regression_in_chart_and_table(found: Trend) -> None:
    root = html.fromstring(render_history(found))
    (figure,) = [one for one in root.xpath("//figure") if "nll of adapter" in one.xpath("string(h3)")]
    assert len(figure.xpath(".//*[local-name()='path'][contains(@class, 'k-worse')]")) == 1
    assert len(figure.xpath(".//*[local-name()='path'][contains(@class, 'k-better')]")) == 1
    rows = [[cell.text_content() for cell in row.xpath("th|td")] for row in figure.xpath(".//tbody/tr")]
    assert [row[6] for row in rows] == ["–", "▲ better", "▼ worse", "The runs asked different dialogues."]
    assert root.xpath("string(//tbody/tr[3]/td[last()])").split()[:2] == ["▼", "worse"]
    assert "not compared" in root.xpath("string(//tbody/tr[4]/td[last()])")


def test_runs_over_other_dialogues_are_not_joined(found: Trend) -> None:
    root = html.fromstring(render_history(found))
    (figure,) = [one for one in root.xpath("//figure") if "nll of adapter" in one.xpath("string(h3)")]
    lines = figure.xpath(".//*[local-name()='path'][@class='k-s1']/@d")
    assert len([line for line in lines if len(set(re.findall(r"[ML](\S+) ", line))) == 2]) == 2


def test_why_a_run_was_not_compared_is_one_clause_of_the_charts_description(found: Trend) -> None:
    page = render_history(found)
    assert "asked different dialogues, n " in page
    assert ".," not in "".join(html.fromstring(page).xpath("//*[local-name()='desc']/text()"))


def test_a_later_runs_page_has_the_trend(found: Trend, accepted: tuple[Baselines, RunFolder]) -> None:
    store, run = accepted
    root = html.fromstring(render(run, baseline=store.accepted("main"), trend=found))
    (section,) = root.xpath("//section[@id='trend']")
    assert "4 accepted runs. Worse than the run before: nll of adapter" in section.text_content()
    assert section.xpath(".//figure")
    assert root.xpath("//nav//a[@href='#trend-in']")


def test_one_accepted_run_is_no_trend_on_the_page(tmp_path: Path, accepted: tuple[Baselines, RunFolder]) -> None:
    store = Baselines(tmp_path / "baselines")
    store.accept(accepted[1].root, "main", "first", measure=measured)
    page = render(accepted[1], baseline=store.accepted("main"), trend=trend(store, "main"))
    assert 'id="trend"' not in page
    assert "1 accepted run; a trend begins with the second." in history_text(trend(store, "main"))


def test_the_commands_accept_and_show_a_history(
    accepted: tuple[Baselines, RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--baselines", str(tmp_path / "baselines")]
    for reason in ("first", "again"):
        arguments = [str(accepted[1].root), "--name", "main", "--reason", reason]
        assert main(["baseline", "accept", *arguments, *store]) == 0
    out = tmp_path / "history.html"
    assert main(["baseline", "history", "main", "--out", str(out), *store]) == 0
    printed = capsys.readouterr().out
    assert "main: 2 accepted runs. None is clearly worse than the one before." in printed
    assert "= equal" in printed
    assert "Baseline main over time" in out.read_text()
    assert main(["baseline", "history", "mian", *store]) == 2
    assert "Did you mean 'main'?" in capsys.readouterr().err


def test_report_shows_the_history_of_the_baseline_that_it_is_given(
    accepted: tuple[Baselines, RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, run = accepted
    monkeypatch.setenv("HARNESS_BASELINES", str(store.root))
    out = tmp_path / "page.html"
    assert main(["report", str(run.root), "--baseline", "main", "--out", str(out)]) == 0
    assert "Baseline main over time" in out.read_text()
