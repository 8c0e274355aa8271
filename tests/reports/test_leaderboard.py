"""The leaderboard's sentences, page and table, of runs that may be anyone's."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from harness.leaderboard.board import Board, leaderboard
from reports.leaderboard import Leaderboard, leaderboard_csv, leaderboard_page, leaderboard_text
from tests.leaderboard.made_boards import board_run, facts, values_of
from tests.reports.test_render import parsed

HOSTILE = ("=1+1", "<img src=x onerror=alert(1)>", "\x1b[31mred", "@sum", "a\u202eb")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    root = tmp_path_factory.mktemp("runs")
    known = {"base_digest": "v2:base", "adapter_digest": "v2:mine"}
    board_run(root / "one", {"base": 0.0, "mine": 0.05}, variants=(facts("base", "base"), facts("mine", **known)))
    board_run(root / "two", {"theirs": 0.1}, seed=2, tokens_ms={"theirs": [12.0] * 8})
    board_run(root / "other", {"base": 0.0}, values=values_of({"base": 0.0}, dialogues=60))
    return leaderboard(root)


@pytest.fixture(scope="module")
def text(board: Board) -> Leaderboard:
    return leaderboard_text(board)


def test_the_best_is_named(text: Leaderboard) -> None:
    assert text.title == "3 variants of 2 runs by ROUGE-L"
    assert text.lead == "All were asked the same 120 dialogues. theirs (two) is the best."


def test_a_tie_is_said_to_be_one(tmp_path: Path) -> None:
    for number in range(2):
        board_run(tmp_path / f"run{number}", {f"a{number}": 0.0}, seed=number)
    said = leaderboard_text(leaderboard(tmp_path))
    assert said.lead.endswith("is tied with it: not shown to be worse.")
    assert len(said.table.groups) == 1


def test_equal_values_have_no_best(tmp_path: Path) -> None:
    values = {"quality.rouge_l": [0.2, 0.3, 0.4] * 40}
    board_run(tmp_path / "run", {"a": 0.0, "b": 0.0, "c": 0.0}, values=dict.fromkeys("abc", values))
    said = leaderboard_text(leaderboard(tmp_path))
    assert said.lead == "All were asked the same 120 dialogues. All have the same value."
    assert [title for title, _ in said.table.groups] == ["Group 1: all have the same value"]


def test_those_with_the_best_value_are_named_together(tmp_path: Path) -> None:
    values = {"quality.rouge_l": [0.2, 0.3, 0.4] * 40}
    worse = {"quality.rouge_l": [0.1, 0.2, 0.3, 0.15, 0.25, 0.38] * 20}
    board_run(tmp_path / "run", {"a": 0.0, "b": 0.0, "c": 0.0}, values={"a": values, "c": worse, "b": values})
    assert leaderboard_text(leaderboard(tmp_path)).lead.endswith("a (run) and b (run) have the best value.")


def test_folded_variants_are_named_with_their_runs(tmp_path: Path) -> None:
    values = values_of({"base": 0.0})["base"]
    variants = tuple(facts(name, "base", model_digest="v2:1") for name in ("base", "again"))
    board_run(tmp_path / "run", {}, values={"base": values, "again": values}, variants=variants)
    board = leaderboard(tmp_path)
    assert "also measured in run:again" in leaderboard_page(board)
    said = "base (run) stands for run:again too: the same weights gave the same replies."
    assert said in leaderboard_text(board).notes
    (row,) = csv.DictReader(io.StringIO(leaderboard_csv(board)))
    assert (row["run"], row["variant"], row["also_in"]) == ("run", "base", "run:again")


def test_the_safety_of_a_variant_is_from_the_run_that_compares_it(tmp_path: Path) -> None:
    def values(gain: float, refused: int) -> dict[str, list[float]]:
        return {**values_of({"x": gain})["x"], "safety.refusal": [1.0] * refused + [0.0] * (120 - refused)}

    tuned = facts("tuned", adapter_digest="v2:tuned")
    board_run(
        tmp_path / "old",
        {},
        values={"base": values(0.0, 0), "tuned": values(0.1, 60)},
        variants=(facts("base", "base", model_digest="v2:base"), tuned),
        finished="2026-11-01T00:00:00+00:00",
    )
    board_run(
        tmp_path / "new",
        {},
        values={"tuned": values(0.1, 60), "next": values(0.2, 60)},
        variants=(tuned, facts("next", adapter_digest="v2:next")),
        finished="2026-11-02T00:00:00+00:00",
    )
    table = leaderboard_text(leaderboard(tmp_path)).table
    place = [head.label for head in table.heads].index("Safety")
    cells = {row.name: row.figures[place] for _, rows in table.groups for row in rows}
    assert cells["base (old)"].value == "reference"
    assert cells["tuned (new)"].value == "1"
    assert cells["tuned (new)"].told.endswith("compared in old")
    assert cells["next (new)"].value == "none"


def test_each_group_says_what_it_was_shown_to_be_worse_than(text: Leaderboard) -> None:
    assert [title for title, _ in text.table.groups] == [
        "Group 1: the best",
        "Group 2: shown to be worse than theirs (two)",
        "Group 3: shown to be worse than mine (one)",
    ]


def test_the_correction_is_stated(text: Leaderboard) -> None:
    assert "98.33\u00a0% confidence, which corrects for all 3 pairs" in text.table.explained


def test_runs_that_are_not_ranked_are_told(text: Leaderboard) -> None:
    assert text.left_out == (("other", "It asked other dialogues; --like ranks the runs that did the same."),)


def test_many_runs_with_one_reason_are_one_line(tmp_path: Path) -> None:
    board_run(tmp_path / "good", {"base": 0.0})
    for number in range(9):
        board_run(tmp_path / f"run{number}", {"base": 0.0}, generation={"max_new_tokens": number})
    ((names, _),) = leaderboard_text(leaderboard(tmp_path, like=tmp_path / "good")).left_out
    assert names == "run0, run1, run2, run3, run4, run5, 3 more"


def test_too_few_dialogues_for_an_interval_are_said_to_be_so(tmp_path: Path) -> None:
    values = values_of({"a": 0.0, "b": 0.3}, dialogues=6)
    board_run(tmp_path / "run", {"a": 0.0, "b": 0.3, "c": 0.0}, values=values | {"c": values["a"]})
    said = leaderboard_text(leaderboard(tmp_path))
    assert said.lead.endswith("They allow no interval of any difference, so everything is tied.")


def test_a_terminal_is_told_the_first_of_many_reasons(tmp_path: Path) -> None:
    board_run(tmp_path / "good", {"base": 0.0})
    for number in range(9):
        (tmp_path / f"bad{number}").mkdir()
        (tmp_path / f"bad{number}" / "run.json").write_text(f'{{"schema": {number + 2}}}')
    said = leaderboard_text(leaderboard(tmp_path))
    assert len(said.left_out) == 9
    assert said.notes[-1] == "… and 3 more; --out FILE.html has them all."


def test_machines_are_told_apart_only_where_there_are_several(tmp_path: Path) -> None:
    for name, cpu in (("a", "Slow CPU"), ("b", "Fast CPU")):
        hardware = {"hardware": {"cpu": cpu, "gpu": None}}
        board_run(tmp_path / name, {name: 0.0}, seed=ord(name), tokens_ms={name: [10.0] * 8}, provenance=hardware)
        (*_, last) = leaderboard_text(leaderboard(tmp_path)).notes
        assert ("Only those with the same letter can be compared." in last) is (name == "b")


def test_the_table_has_the_ends_of_every_interval(board: Board) -> None:
    rows = list(csv.DictReader(io.StringIO(leaderboard_csv(board))))
    assert [(row["group"], row["variant"], row["run"]) for row in rows] == [
        ("1", "theirs", "two"),
        ("2", "mine", "one"),
        ("3", "base", "one"),
    ]
    mine, found = rows[1], board.ranked[1]
    estimate = found.entry.estimate("quality.nll")
    assert estimate is not None
    assert found.difference is not None
    assert float(mine["quality.nll.low"]) == estimate.low
    assert float(mine["difference.high"]) == found.difference.high
    assert float(mine["difference.confidence"]) == pytest.approx(1 - 0.05 / 3)
    assert (mine["base_digest"], mine["adapter_digest"]) == ("v2:base", "v2:mine")
    assert (rows[0]["difference.value"], rows[0]["latency.tpot_ms.p50.value"]) == ("", "12.0")


def test_a_word_of_a_heading_and_a_folder_of_a_path_stay_whole(tmp_path: Path) -> None:
    board_run(tmp_path / "runs" / "quickstart" / "run", {"base": 0.0})
    root = parsed(leaderboard_page(leaderboard(tmp_path)))
    assert "ROUGE-L" in root.xpath("//thead//span[@class='whole']/text()")
    (path,) = root.xpath("//td/span[contains(@class, 'path')]")
    assert (path.text_content(), len(path.xpath(".//wbr"))) == ("runs/quickstart/run", 2)


def test_names_from_others_folders_stay_text(tmp_path: Path) -> None:
    for name in HOSTILE:
        board_run(tmp_path / name, {name: 0.0}, variants=(facts(name, model=name),), finished=name)
    board = leaderboard(tmp_path)
    page = leaderboard_page(board)
    root = parsed(page)
    assert root.xpath("//img | //@onerror") == []
    assert len(root.xpath("//script")) == 1
    assert not set(page) & {"\x1b", "\u202e"}
    cells = [cell for row in csv.reader(io.StringIO(leaderboard_csv(board))) for cell in row]
    assert [cell for cell in cells if cell.startswith(("=", "@", "\x1b"))] == []
    assert "'=1+1" in cells
