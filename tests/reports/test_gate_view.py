"""The verdict that a page shows, and what it says where that may no longer hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.gating.gate import gate
from harness.store.folder import RunFolder
from reports.gate_view import read_gate
from reports.render import render
from tests.run_folders import make_run, random_values

THRESHOLDS = "version: 1\ncandidate: adapter\nchecks: [{id: overlap, metric: quality.rouge_l, min: 0.1}]\n"
CHANGED = "thresholds.yaml is not as it was when the gate judged by it. Run the gate again."


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Return a run that was judged by ``thresholds.yaml`` of the current folder."""
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "run", random_values(20))
    Path("thresholds.yaml").write_text(THRESHOLDS)
    gate(run.root, "thresholds.yaml")
    return run


def warnings(run: RunFolder) -> tuple[str, ...]:
    result = read_gate(run)
    assert result is not None
    return result.warnings


def test_thresholds_that_were_edited_since_are_said(judged: RunFolder) -> None:
    assert warnings(judged) == ()
    Path("thresholds.yaml").write_text(THRESHOLDS.replace("0.1", "0.9"))
    assert warnings(judged) == (CHANGED,)
    assert CHANGED in render(judged)


def test_thresholds_that_are_elsewhere_are_not_guessed_about(
    judged: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert warnings(judged) == ()


def test_a_shipped_file_of_another_version_is_said(judged: RunFolder) -> None:
    Path("quickstart.yaml").write_text(THRESHOLDS)
    gate(judged.root, "quickstart.yaml")
    assert warnings(judged) == ()
    Path("quickstart.yaml").unlink()
    assert warnings(judged) == (CHANGED.replace("thresholds", "quickstart"),)
