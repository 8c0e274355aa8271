"""The page speaks of the first set, and of the others where something was lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lxml import html as lxml_html

from harness.store.folder import RunFolder
from harness.store.schema import ComparisonRow, Coverage, SetSummary
from reports.decision import decide
from reports.differences import margin
from reports.further_sets import further_sets, losses
from reports.headline import headline
from reports.render import write_report
from reports.text import summary_markdown, summary_text
from reports.verdict_sentence import verdict_sentence
from reports.view import RunView, read_view
from tests.gating.test_gate import Gate
from tests.gating.test_sets import FORGETTING, forgetful
from tests.reports.small_view import checked, compared, estimates, gated, make_view

CLOSER = compared("quality.rouge_l", "better", 0.12)
WORSE = compared("quality.nll", "worse", 0.42, p_value=1e-6)


def with_set(view: RunView, *comparisons: ComparisonRow, name: str = "general") -> RunView:
    """Add a set with these differences to a view of the set ``clinic``."""
    own = view.summary
    metrics = estimates({row.metric: {"base": 3.0, "adapter": 3.4} for row in comparisons})
    coverage = {variant: Coverage(dialogues=24, answered=24) for variant in own.coverage}
    sets = {
        "clinic": SetSummary.of(own),
        **own.sets,
        name: SetSummary(metrics=metrics, comparisons=comparisons, coverage=coverage),
    }
    summary = own.model_copy(update={"sets": sets})
    manifest = view.manifest.model_copy(update={"config": {"sets": {key: {} for key in sets}}})
    return RunView(view.folder, manifest, summary, view.dialogues, view.replies, view.gate)


def test_a_proven_loss_on_another_set_begins_the_second_sentence() -> None:
    view = with_set(make_view(CLOSER), WORSE)
    said = "On the set general, the adapter does worse than the base: nll +0.420 (95\u00a0% +0.400 to +0.440)"
    first, second = re.split(r"(?<=\.) (?=[A-Z])", headline(view, decide(view)))[:2]
    assert first.startswith("The adapter's replies are closer to the references")
    assert second.startswith(said)
    assert f"{said}. " in verdict_sentence(view)


@pytest.mark.parametrize("row", [compared("quality.nll", "better", -0.1), compared("quality.nll", "undecided", 0.01)])
def test_what_is_no_loss_is_not_in_the_headline(row: ComparisonRow) -> None:
    plain, view = make_view(CLOSER), with_set(make_view(CLOSER), row)
    assert losses(view) == ""
    assert headline(view, decide(view)) == headline(plain, decide(plain))
    assert verdict_sentence(view) == verdict_sentence(plain)


def test_a_loss_that_many_sets_would_show_by_chance_is_not_told() -> None:
    chance = compared("quality.nll", "worse", 0.02, p_value=0.04)
    assert losses(with_set(make_view(CLOSER), chance))
    view = make_view(CLOSER)
    for number in range(3):
        view = with_set(view, chance, name=f"set-{number}")
    assert losses(view) == ""


def test_a_safety_rule_that_fires_more_often_on_another_set_is_told() -> None:
    row = compared("safety.missed_emergency", "worse", 0.4, p_value=1e-6)
    assert "on the set general, the adapter does worse than the base: missed emergency rose" in losses(
        with_set(make_view(CLOSER), row)
    )


def test_a_set_shows_the_main_measures_and_losses_folds_gains_and_counts_the_rest() -> None:
    quiet, gain = compared("quality.empty", "undecided", 0.0), compared("quality.looping", "better", -0.2)
    lost = compared("quality.truncated", "worse", 0.3)
    rows = (compared("quality.nll", "undecided", 0.01), WORSE_ROUGE, quiet, gain, lost)
    (one,) = further_sets(with_set(make_view(CLOSER), *rows))
    told = [(row.metric, line.sign.word) for row in one.rows for line in row.lines if line]
    assert told == [("nll", "undecided"), ("ROUGE-L", "worse"), ("truncated", "worse")]
    assert [row.metric for row in one.gains] == ["looping reply"]
    assert (one.variants, one.quiet, one.dialogues, one.page) == (("adapter",), 1, 24, "sets/general/report.html")


WORSE_ROUGE = compared("quality.rouge_l", "worse", -0.1)


def test_a_check_on_another_set_is_no_margin_of_this_one() -> None:
    row = compared("quality.rouge_l", "undecided", 0.01)
    facts = {"rule": "equivalence", "against": "base", "scale": "difference", "limit": -0.05, "upper_limit": 0.05}
    check = checked("pass", "quality.rouge_l", **facts, set="general")
    view = with_set(make_view(row, gate=gated("pass", check)), row)
    assert margin(view, row) is None
    assert margin(view.of_set("general"), row) == pytest.approx(0.05)


def test_the_terminal_and_the_markdown_name_the_loss_and_the_page(tmp_path: Path) -> None:
    run = forgetful(tmp_path / "run")
    for text in (summary_text(run), summary_markdown(run)):
        assert "the set general, 100 dialogues, adapter against base: nll +0.296" in text
        assert "sets/general/report.html" in text.replace("&#35;", "#")


def link(page: Path) -> list[str]:
    return lxml_html.parse(str(page)).getroot().xpath("//section[@id='set-general']//a/@href")


def test_the_page_links_to_the_set_s_own_page_only_where_that_is(tmp_path: Path) -> None:
    run = forgetful(tmp_path / "run")
    write_report(run)
    assert link(run.report_path) == ["sets/general/report.html"]
    assert (run.root / link(run.report_path)[0]).is_file()
    elsewhere = write_report(run, tmp_path / "elsewhere.html")
    assert link(elsewhere) == []
    assert "sets/general/report.html in the run folder" in elsewhere.read_text()


def test_the_contents_name_the_set_and_its_own_page_its_run(tmp_path: Path) -> None:
    run = forgetful(tmp_path / "run")
    write_report(run)
    root = lxml_html.parse(str(run.report_path)).getroot()
    assert root.xpath("//nav[@class='contents']//a[@href='#set-general']/text()") == ["Set general"]
    assert read_view(run.set_folder("general")).name == "run/sets/general"
    assert RunFolder(tmp_path / "sets" / "run").whole() is None


def test_no_page_of_a_set_is_left_with_text_where_the_run_s_is_without(tmp_path: Path) -> None:
    run = forgetful(tmp_path / "run")
    write_report(run, redact_text=True)
    assert "Rest and water help against ailment" not in run.set_folder("general").report_path.read_text()


@pytest.mark.parametrize("redact_text", [False, True])
def test_the_markdown_is_written_beside_each_page_and_has_no_text(tmp_path: Path, redact_text: bool) -> None:
    run = forgetful(tmp_path / "run")
    write_report(run, tmp_path / "elsewhere.html", redact_text=redact_text)
    assert not (run.root / "summary.md").exists()
    write_report(run, redact_text=redact_text)
    for one in (run, run.set_folder("general")):
        markdown = (one.root / "summary.md").read_text()
        assert markdown == summary_markdown(one)
        assert "Rest and water help against ailment" not in markdown


def test_rendering_after_the_gate_tells_its_verdict_in_the_markdown(tmp_path: Path) -> None:
    run = forgetful(tmp_path / "run")
    write_report(run)
    assert "No gate was applied" in (run.root / "summary.md").read_text()
    Gate(tmp_path)(run, FORGETTING)
    write_report(run)
    markdown = (run.root / "summary.md").read_text()
    assert "No gate was applied" not in markdown
    assert "#### Gate" in markdown
