"""What a later version wrote is refused in one sentence, never half understood."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import main
from harness.gating.policy import SHIPPED

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "run"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return shutil.copytree(GOLDEN, tmp_path / "run")


def set_schema(path: Path, schema: int) -> None:
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "schema": schema}))


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("report RUN", "run.json"),
        ("report RUN", "summary.json"),
        ("compare RUN RUN", "run.json"),
        ("compare RUN RUN", "summary.json"),
        ("gate RUN --thresholds quickstart", "run.json"),  # a changed summary.json breaks the seal first
    ],
)
def test_newer_run_folder(capsys: Any, tmp_path: Path, run: Path, command: str, file: str) -> None:
    set_schema(run / file, 99)
    arguments = [str(run) if word == "RUN" else word for word in command.split()]
    out = ["--out", str(tmp_path / "page.html")] if "gate" not in command else []
    assert main([*arguments, *out]) == 2
    said = capsys.readouterr().err
    assert f"{run / file} has schema 99" in said
    assert said.endswith("upgrade medical-dialogue-harness.\n")
    assert "Traceback" not in said


def test_newer_run_folder_is_not_scored_again(capsys: Any, run: Path) -> None:
    set_schema(run / "run.json", 99)
    assert main(["score", "--run", str(run)]) == 2
    assert "has schema 99" in capsys.readouterr().err


def test_newer_thresholds_file(capsys: Any, tmp_path: Path, run: Path) -> None:
    text = (SHIPPED / "quickstart.yaml").read_text().replace("version: 1", "version: 99\nunheard_of: 1")
    path = tmp_path / "thresholds.yaml"
    path.write_text(text)
    assert main(["gate", str(run), "--thresholds", str(path)]) == 2
    said = capsys.readouterr().err.replace("\n", " ")
    assert "version 99 of thresholds files is newer than this harness" in said
    assert "line " in said
    assert "Upgrade medical-dialogue-harness" in said
