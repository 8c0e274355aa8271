"""A run with several adapters or systems: which is the best, on the page and in the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.store.folder import RunFolder
from reports.contenders import best_contender, contenders_table, which_contender
from reports.decision import decide
from reports.headline import headline
from reports.next_command import next_command
from reports.next_step import next_step
from reports.render import render
from reports.verdict_sentence import verdict_sentence
from reports.view import RunView, read_view
from tests.leaderboard.made_boards import board_run, facts
from tests.reports.test_render import parsed


def view_of(root: Path, *gains: float, **more: object) -> RunView:
    names = ("base", *(f"adapter-{letter}" for letter in "abcdef"))
    return read_view(board_run(root, dict(zip(names, gains, strict=False)), **more))


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> RunView:
    return view_of(tmp_path_factory.mktemp("best") / "run", 0.0, 0.05, 0.1, 0.05)


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> RunView:
    return view_of(tmp_path_factory.mktemp("tied") / "run", 0.0, 0.1, 0.1, 0.05)


def test_the_best_contender_is_named_though_the_page_is_about_another(best: RunView) -> None:
    assert best.candidate == "adapter-a"
    assert headline(best, decide(best)).endswith("Of 3 adapters, adapter-b is the best by ROUGE-L.")
    assert next_step(best)[0] == (
        "Of the adapters, judge adapter-b rather than adapter-a: it is the best (gate --candidate adapter-b)."
    )


def test_the_decision_does_not_recommend_one_where_another_is_better(best: RunView) -> None:
    assert decide(best).reason.endswith("closer to the references, but adapter-b is better still")
    assert next_step(best)[1].startswith("Set the thresholds that adapter-b must meet")
    command = next_command(best)
    assert command is not None
    assert command.line.endswith("--candidate adapter-b")


def test_the_decision_says_that_the_candidate_is_tied(tied: RunView) -> None:
    assert decide(tied).reason.endswith("closer to the references, but it is tied with adapter-b")
    assert next_step(tied)[1].startswith("Set the thresholds that the one you choose must meet")


def test_the_verdict_of_a_terminal_names_the_best_or_the_tied(best: RunView, tied: RunView) -> None:
    assert "Of 3 adapters, adapter-b is the best by ROUGE-L. No gate" in verdict_sentence(best)
    assert "by ROUGE-L: adapter-b and adapter-a are tied. No gate" in verdict_sentence(tied)


def test_systems_scored_from_files_are_ranked_as_adapters_are(tmp_path: Path) -> None:
    gains = {"base": 0.0, "first": 0.05, "second": 0.05, "good": 0.2}
    kinds = tuple(facts(name, "replies") for name in gains)
    view = read_view(board_run(tmp_path / "run", gains, variants=kinds, kind="score", reference_variant="base"))
    assert view.candidate == "first"
    assert best_contender(view) == "of 3 systems compared with the base, good is the best by ROUGE-L"
    assert decide(view).reason.endswith("but good is better still")
    text = parsed(render(view.folder)).xpath("//section[@id='standing']")[0].text_content()
    assert "Which system is the best" in text
    assert "Group 2: shown to be worse than good" in text


def test_a_tie_is_said_to_be_one(tied: RunView) -> None:
    said = headline(tied, decide(tied))
    assert "Of 3 adapters, none is shown to be the best by ROUGE-L: " in said
    assert "adapter-c" not in best_contender(tied)
    assert next_step(tied)[0].endswith("measure more dialogues: their quality is tied.")


def test_no_other_step_is_needed_where_the_page_is_about_the_best(tmp_path: Path) -> None:
    view = view_of(tmp_path / "run", 0.0, 0.1, 0.05)
    assert best_contender(view) == "of 2 adapters, adapter-a is the best by ROUGE-L"
    assert which_contender(view) == ()


def test_the_base_is_not_among_the_adapters(best: RunView) -> None:
    table = contenders_table(best)
    assert table is not None
    assert [row.variant for _, rows in table.groups for row in rows] == ["adapter-b", "adapter-a", "adapter-c"]


def test_the_table_comes_first_below_the_first_screen(best: RunView) -> None:
    root = parsed(render(best.folder))
    assert root.xpath("//main/section/@id")[0] == "standing"
    assert root.xpath("//nav//a/text()")[:2] == ["Verdict", "Adapters"]
    assert "Group 2: shown to be worse than adapter-b" in root.xpath("//section[@id='standing']")[0].text_content()


def test_with_one_adapter_the_page_says_nothing_of_it(tmp_path: Path) -> None:
    view = view_of(tmp_path / "run", 0.0, 0.1)
    assert (view.places, contenders_table(view), best_contender(view), which_contender(view)) == ((), None, "", ())
    assert "standing" not in parsed(render(view.folder)).xpath("//section/@id")


def test_an_adapter_that_skips_dialogues_cannot_be_the_best(tmp_path: Path) -> None:
    view = view_of(tmp_path / "run", 0.0, 0.05, 0.05, 0.2, unanswered={"adapter-c": [f"d{n:04d}" for n in range(9)]})
    assert {one.contender.variant for one in view.places} == {"adapter-a", "adapter-b"}
    table = contenders_table(view)
    assert table is not None
    assert table.explained.endswith("Not ranked, for too few answered dialogues or no value: adapter-c.")


def test_without_quality_no_adapter_is_named(tmp_path: Path) -> None:
    values = {name: {"quality.empty": [0.0] * 60} for name in ("base", "adapter-a", "adapter-b")}
    folder: RunFolder = board_run(tmp_path / "run", dict.fromkeys(values, 0.0), values=values)
    assert read_view(folder).places == ()
