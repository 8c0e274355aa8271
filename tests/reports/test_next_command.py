"""The command to copy: the run's path as its user would type it, and no more of it than may be shared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.gating.verdict import VerdictName
from harness.store.folder import RunFolder
from reports.next_command import next_command
from reports.view import RunView
from tests.reports.small_view import checked, compared, gated, make_view

CLOSER = compared("quality.rouge_l", "better", 0.12)


def line(view: RunView) -> str:
    found = next_command(view)
    return found.line if found else ""


def at(view: RunView, path: Path | str) -> RunView:
    return replace(view, folder=RunFolder(path))


def made_by(view: RunView, command: str, **held_out: int) -> RunView:
    fields: dict[str, Any] = {"provenance": {"command": command}, "held_out": held_out}
    return replace(view, manifest=view.manifest.model_copy(update=fields))


def test_a_path_below_the_current_folder_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert line(at(make_view(CLOSER), tmp_path / "runs" / "new")) == "python -m harness thresholds init runs/new"


def test_a_path_with_spaces_is_quoted() -> None:
    assert line(at(make_view(CLOSER), "runs/my run")) == "python -m harness thresholds init 'runs/my run'"


def test_a_page_names_no_path_of_the_machine(tmp_path: Path) -> None:
    assert line(at(make_view(CLOSER), tmp_path / "new")) == "python -m harness thresholds init new"


@pytest.mark.parametrize("verdict", ["pass", "fail", "error", "inconclusive"])
def test_every_verdict_has_a_command_that_its_program_knows(verdict: VerdictName) -> None:
    from typer.main import get_command

    from harness.cli.app import app

    words = line(make_view(CLOSER, gate=gated(verdict, checked(verdict)))).split()
    assert words[:3] == ["python", "-m", "harness"]
    assert words[3] in get_command(app).commands  # type: ignore[attr-defined]


def test_an_unfinished_run_is_resumed_by_the_command_that_began_it() -> None:
    view = make_view(CLOSER, state="failed")
    made = made_by(view, "python -m harness run 'my config.yaml' --limit 50 --out=elsewhere --set seed=3")
    assert line(made) == "python -m harness run 'my config.yaml' --limit 50 --set seed=3 --out run"


@pytest.mark.parametrize("command", ["", "python -m harness score --run run", "python -m harness run 'unclosed"])
def test_without_a_known_command_none_is_made_up(command: str) -> None:
    assert next_command(made_by(make_view(CLOSER, state="running"), command)) is None


@pytest.mark.parametrize(
    ("held_out", "expected"),
    [
        (900, "run a.yaml --limit 420 --out run-420"),
        (300, "run a.yaml --limit 300 --out run-300"),
        (120, "gate run --thresholds thresholds.yaml --explain a-check"),
    ],
)
def test_an_undecided_check_asks_for_no_more_dialogues_than_are_held_out(held_out: int, expected: str) -> None:
    view = make_view(CLOSER, gate=gated("inconclusive", checked("inconclusive", n=120, needed_n=420)))
    made = made_by(view, "harness run a.yaml --limit 120 --out run", held_out=held_out, measured=120)
    assert line(made) == f"python -m harness {expected}"


def test_a_single_variant_can_be_judged_by_thresholds_too() -> None:
    assert line(make_view(variants=("adapter",))) == "python -m harness thresholds init run"
