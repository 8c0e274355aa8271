"""``leaderboard`` as a person types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.app import main
from tests.leaderboard.made_boards import board_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for number in range(3):
        gains = {"base": 0.0, "adapter": 0.05 * number}
        timed = {"base": [10.0, 10.1] * 8, "adapter": [16.0, 16.2] * 8}
        sizes = {"base": [410.0], "adapter": [470.0]}
        board_run(root / f"team/experiment-{number}", gains, seed=number, tokens_ms=timed, rss_mib=sizes)
    return root


def test_the_table_fits_a_terminal_of_80_columns(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["leaderboard", str(runs)]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert "adapter (team/experiment-2) is the best." in " ".join(out.split())
    for shown in ("ROUGE-L", "to the best", "nll", "ms/token", "memory", "470 MiB", "2026-11-01"):
        assert shown in out


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_names_stay_whole_and_figures_continue_below(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    names = {"base-nf4": 0.0, "merged-dequantized": 0.1}
    timed = {name: [10.0, 10.1] * 8 for name in names}
    sizes = {name: [410.0] for name in names}
    board_run(tmp_path / "runs/quickstart/run", names, tokens_ms=timed, rss_mib=sizes)
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["leaderboard", str(tmp_path)]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("Group")]
    assert max(map(len, table)) <= columns
    assert not any("…" in line for line in table)
    words = {word for line in table for word in line.split()}
    assert {*names, "runs/quickstart/run,", "2026-11-01", "410", "MiB"} <= words
    tables = [line for line in table if line.split()[:1] == ["variant"]]
    assert (len(tables) > 1) is (columns < 120)
    assert {"ROUGE-L", "nll", "ms/token", "memory"} <= {word for line in tables for word in line.split()}


def test_a_page_and_a_table_are_written(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, table = tmp_path / "new" / "board.html", tmp_path / "board.CSV"
    assert main(["leaderboard", str(runs), "--out", str(page), "--out", str(table)]) == 0
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert table.read_text(encoding="utf-8").startswith("group,variant,run,")
    assert f"Page: {page}" in capsys.readouterr().out.replace("\n", "")


def test_another_metric_ranks(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", str(runs), "--metric", "quality.nll"]) == 0
    assert "by nll" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["absent"], "absent does not exist"),
        (["RUNS", "--out", "board.txt"], "ends in .html or .csv"),
        (["RUNS", "--metric", "quality.rogue_l"], "Did you mean 'quality.rouge_l'"),
        (["RUNS", "--like", "absent"], "absent does not exist"),
        (["EMPTY"], "contains no finished run"),
        ([], "FOLDER"),
    ],
)
def test_a_wrong_argument_is_one_sentence(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    places = {"RUNS": str(runs), "EMPTY": str(tmp_path)}
    assert main(["leaderboard", *(places.get(one, one) for one in arguments)]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said
    assert not Path("board.txt").exists()


def test_a_line_break_in_a_name_makes_no_second_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board_run(tmp_path / "run", {"good\nevil  0.999": 0.0})
    assert main(["leaderboard", str(tmp_path)]) == 0
    assert not any(line.startswith("evil") for line in capsys.readouterr().out.splitlines())
